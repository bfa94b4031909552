"""`python -m devbroker [--port 9092] [--folder .kafka/data]`: a broker for a person, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from devbroker.broker import ROOT, Broker, BrokerFailed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--folder", type=Path, default=ROOT / ".kafka" / "data")
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    broker = Broker(arguments.folder.absolute(), arguments.port)
    try:
        with broker:
            print(f"Kafka answers on {broker.bootstrap}: export BOHDI_KAFKA={broker.bootstrap}", flush=True)
            signal.pause()
    except BrokerFailed as error:
        sys.exit(f"bohdi: {error}")


if __name__ == "__main__":
    main()
