"""`python -m tests.real [--dir DIR] [CONFIG]`: one round on real models; figures in DIR/summary.json.

DIR/outputs.jsonl holds every text that a model gave.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from bohdi.embedded import Watcher, host_run, new_run, real_parts
from bohdi.run_folder import RunFolder, resolved
from bohdi.verify_run import verify_folder
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, SproutRequested
from bohdi_common.events.topics import SPROUT_REQUESTS
from bohdi_common.models import prompts
from bohdi_common.models.adapters import models
from bohdi_common.runtime import config as configs
from tests.real.outputs import Recording, known_names, parsed


class _Telling(Watcher):
    def on_event(self, event: Event) -> None:
        print(f"{event.WhichOneof('body')} {event.round}.{event.step}.{event.slot}", flush=True)


def _sprouts(folder: RunFolder) -> list[SproutRequested]:
    records = folder.read().read(SPROUT_REQUESTS.name)
    return [codec.decode(stored.value).sprout_requested for stored in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", nargs="?", type=Path, default=Path("configs/real.yaml"))
    parser.add_argument("--dir", type=Path, default=Path("runs/real"))
    told = parser.parse_args()
    config = resolved(configs.load(told.config), told.config.parent)
    folder, outputs = RunFolder(told.dir), told.dir / "outputs.jsonl"
    parts = real_parts()
    parts.models = lambda folder_of: Recording(models(folder_of), outputs)
    started_s = time.monotonic()
    new_run(config, folder, 1, parts)
    state = asyncio.run(host_run(config, folder, parts, _Telling(), resume=False))
    report = verify_folder(folder)
    with outputs.open(encoding="utf-8") as lines:
        shares = parsed(map(json.loads, lines), prompts.load(config.prompts), known_names(_sprouts(folder)))
    summary = {
        "parsed": shares,
        "promoted": state.versions[1:],
        "seconds": time.monotonic() - started_s,
        "finished": state.finished,
        "counts": state.counts,
        "problems": report["problems"],
    }
    folder.summary.write_text(json.dumps(summary, indent=2))
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
