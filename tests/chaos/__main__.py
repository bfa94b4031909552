"""`python -m tests.chaos [--seed N] [--kills 30] [--broker-kills 5]`: ends with 1 if anything is wrong."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from pathlib import Path

from tests.chaos.campaign import Campaign

FOLDER = Path("runs/chaos")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=30, help="of services; several at once count each")
    parser.add_argument("--broker-kills", type=int, default=5)
    told = parser.parse_args()
    shutil.rmtree(FOLDER, ignore_errors=True)
    campaign = Campaign(FOLDER.absolute(), told.seed, told.kills, told.broker_kills)
    summary = asyncio.run(campaign.run())
    (FOLDER / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    for name, value in summary.items():
        print(f"{name:>16}  {value}")
    if summary["problems"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
