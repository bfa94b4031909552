"""`python -m tests.demo_http [--dir DIR] [--seed N] [--share S]`: the demo with all its models behind HTTP.

The stub server (a test's tool: the protocol and its faults are true) stands before the real micro models, in a process
for the sources and another for the target, and something befalls a share of the calls. The run is the demo's: the
target is trained whole, and its server reads every version's weights in the place of those that it has. Accuracy is
measured in the folders of sources and versions, as in the demo. At the end every request that the servers saw is
accounted for; the account is in the run's summary.json under `http`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bohdi.run_folder import RunFolder
from bohdi_common.runtime import config as configs
from bohdi_common.runtime.feedback import feedback_events
from services.bandit.handler import folded
from tests.stub_server import HARMLESS

DEMO = Path("configs/demo.yaml")
SOURCES = ("qwen", "mistral", "phi")
SHARE = 0.05
SLOW_S = 1.0
WHOLE = ("--dev",)  # of the target's server, whose weights are changed
# A training whose versions are LoRA adapters, as tests have it. As wide as the hidden size, so that an adapter can be
# any change of a hidden matrix; the embeddings and norms, which the demo trains too, stay as they are. Half and twice
# this rate learnt less in the first two rounds (0.66 overall, not 0.70; every weight: 0.79).
LORA: dict[str, Any] = {
    "lora_rank": 64, "lora_alpha": 128, "learning_rate": 0.004, "muon_learning_rate": 0.0, "weight_decay": 0.05,
}  # fmt: skip
_BOHDI = [sys.executable, "-W", "ignore", "-m", "bohdi"]


@dataclass
class Served:
    """Models behind a stub in a process of its own. What it did is there once the process has ended."""

    url: str
    process: subprocess.Popen[str]
    calls: Counter[str] = field(default_factory=Counter)  # requests, answered or not
    befallen: Counter[str] = field(default_factory=Counter)
    changes: list[str] = field(default_factory=list)  # versions that were loaded, adapters that were unloaded


@contextmanager
def served(*names: str, share: float = SHARE, seed: int = 0, options: Sequence[str] = ()) -> Iterator[Served]:
    """The micro-world's models of these names."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.stub_server", "--share", str(share), "--seed", str(seed)]
    command += [*options, "--slow-s", str(SLOW_S), *(f"{name}=microworld:{name}" for name in names)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        stub = Served(process.stdout.readline().strip(), process)
        try:
            yield stub
        finally:
            process.terminate()
            last = process.communicate()[0].strip()
        did = json.loads(last)
        stub.calls.update(did["calls"])
        stub.befallen.update({fault: count for fault, count in did["befallen"].items() if count})
        stub.changes += did["changes"]


def behind(sources: str, target: str, overrides: dict[str, Any] | None = None) -> configs.Config:
    """The demo's configuration with its models behind these servers, the target's to be changed whole (WHOLE);
    `overrides` are laid over it."""
    demo = configs.load(DEMO, overrides)
    server = {"adapter": "http", "key_env": ""}
    changed = demo.model_dump(mode="json")
    changed["sources"] = [source.model_dump(mode="json") | server | {"urls": [sources]} for source in demo.sources]
    changed["target"] |= server | {"urls": [target]}
    return configs.parse(changed, "the demo over HTTP")


@dataclass(frozen=True)
class Account:
    """Every request that the servers saw, as an answer in the log or a fault; and what became of the faults."""

    requests: int
    answered: int  # calls that the run's events are charged with
    faults: Counter[str]
    lost: Counter[str]  # of slots: expired, unavailable; of answers and verdicts: those that a server did not give
    promoted: int
    loaded: int

    @classmethod
    def of(cls, folder: RunFolder, *stubs: Served) -> Account:
        """What the log of a finished run and the servers say of each other."""
        log = folder.read()
        run_id = folder.run_id(log)
        events = [event for _, event in feedback_events(log) if event.run_id == run_id]
        state = folded(events, run_id)
        lost = Counter({what: state.counts.get(what, 0) for what in ("expired", "unavailable", "trainings_failed")})
        for event in events:
            judged = event.harvest_judged
            lost["answers"] += sum(" at http://" in answer.failed for answer in judged.answers)
            if judged.verdicts:
                lost["verdicts"] += len(SOURCES) - len(judged.verdicts)
        return cls(
            requests=sum(sum(stub.calls.values()) for stub in stubs),
            answered=sum(used.calls for event in events for used in event.usage),
            faults=sum((stub.befallen for stub in stubs), Counter()),
            lost=lost,
            promoted=len(state.versions) - 1,
            loaded=sum(change.startswith(("load ", "reload ")) for stub in stubs for change in stub.changes),
        )

    @property
    def asked_again(self) -> int:
        """Requests beyond the first of each answered call."""
        return self.requests - self.answered

    @property
    def harmful(self) -> int:
        return sum(count for fault, count in self.faults.items() if fault not in HARMLESS)

    def problems(self) -> Iterator[str]:
        """What does not add up, or was lost."""
        if self.asked_again != self.harmful:
            yield f"{self.asked_again} requests were made again, for {self.harmful} faults that cost an answer"
        for what, count in self.lost.items():
            if count:
                yield f"lost: {count} {what}"
        if self.loaded < self.promoted:
            yield f"{self.promoted} versions were promoted, {self.loaded} loaded"

    def told(self) -> dict[str, Any]:
        """As in summary.json."""
        return {
            "requests": self.requests, "answered": self.answered, "asked_again": self.asked_again,
            "faults": dict(sorted(self.faults.items())), "lost": dict(self.lost),
            "versions_promoted": self.promoted, "versions_loaded": self.loaded, "problems": list(self.problems()),
        }  # fmt: skip

    def lines(self) -> Iterator[str]:
        faults = ", ".join(f"{count} {fault}" for fault, count in sorted(self.faults.items()))
        yield f"{self.requests} requests, {self.answered} of them answered calls in the log"
        yield f"{self.faults.total()} faults ({self.faults.total() / max(1, self.requests):.1%}): {faults}"
        yield f"{self.asked_again} requests made again, for {self.harmful} faults that cost an answer"
        yield f"lost: {', '.join(f'{count} {what}' for what, count in self.lost.items())}"
        yield f"{self.promoted} versions promoted, {self.loaded} loaded by the server"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path("runs/demo-http"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=SHARE)
    told = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sources = stack.enter_context(served(*SOURCES, share=told.share, seed=told.seed))
        target = stack.enter_context(served("target", share=told.share, seed=told.seed + 1, options=WHOLE))
        file = scratch / "demo-http.yaml"
        file.write_text(yaml.safe_dump(behind(sources.url, target.url).model_dump(mode="json"), sort_keys=False))
        command = [*_BOHDI, "run", str(file), "--dir", str(told.dir), "--seed", str(told.seed)]
        if code := subprocess.run(command, check=False).returncode:
            return code
    folder = RunFolder(told.dir)
    account = Account.of(folder, sources, target)
    summary = json.loads(folder.summary.read_text())
    folder.summary.write_text(json.dumps(summary | {"http": account.told()}, indent=1) + "\n")
    print(*account.lines(), *account.problems(), sep="\n", flush=True)
    verified = subprocess.run([*_BOHDI, "verify", str(told.dir)], check=False).returncode
    return verified or int(any(account.problems()))


if __name__ == "__main__":
    sys.exit(main())
