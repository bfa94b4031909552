"""Questions that were asked before in a run, and which of them a new one is like.

The state is an index in memory of what the feedback log holds, read on from where it was read to before each question:
killed, the service has it again with its first request of the run. What this process is about to ask counts at once;
what another one is about to ask counts when its result is in the log. So two questions that are asked at the same time
by two processes may both pass, though they are alike; one that is asked later passes never.
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bohdi_common.events.events_pb2 import Event
from bohdi_common.log.port import LogReader
from bohdi_common.runtime.feedback import feedback_events
from bohdi_common.runtime.worker import in_thread

RUNS_MAX = 8  # whose indices are kept; another run's is made anew from the log
QUESTIONS_MAX = 20_000  # of one run, the latest; about 4 KB each
_SHINGLE_CHARS = 5
_HASHES = 128
_LOOKED_AT_CHARS = 4000
_WIDER = 0.8  # the hashes look for a similarity so much lower than asked, and the shingles themselves decide
_INSERTED_AT_ONCE = 200  # a tenth of a second of the event loop
_MARKS = str.maketrans(dict.fromkeys(",.;:!?\"'`¿¡…、。“”„‘’«»", " "))
_ASKED_IN = ("harvest_judged", "rehearsal_answered", "harvest_failed")  # results that name the question that was asked

Place = tuple[int, int]  # round and step


def shingles(text: str) -> frozenset[str]:
    """All runs of 5 characters of a text, in one case, white space and the marks of sentences apart; of a shorter one
    the text itself. Signs of arithmetic stay: they make another question."""
    plain = " ".join(unicodedata.normalize("NFKC", text[:_LOOKED_AT_CHARS]).casefold().translate(_MARKS).split())
    return frozenset(plain[i : i + _SHINGLE_CHARS] for i in range(max(1, len(plain) - _SHINGLE_CHARS + 1)))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity of two sets of which one is not empty, 0 to 1."""
    return len(one & other) / len(one | other)


@dataclass(frozen=True)
class Asked:
    """A question, the request that asked it, where in the run, and whether its result is in the log."""

    request_hash: str
    text: str
    place: Place
    logged: bool = False


class Index:
    """The latest questions of one run, at most `size`. Costs a question its own length, not their number."""

    def __init__(self, threshold: float, size: int = QUESTIONS_MAX) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        self._size = size
        self._hashes = MinHashLSH(threshold=_WIDER * threshold, num_perm=_HASHES)
        self._asked: OrderedDict[str, Asked] = OrderedDict()

    def __len__(self) -> int:
        return len(self._asked)

    def like(self, text: str, request_hash: str, before: Place | None = None) -> str:
        """Request of a question that this one is like; empty when there is none. A request is asked again when a model
        was away: what it asked itself does not count. `before`: nor does what was not asked before that place."""
        own = shingles(text)
        for other in self._hashes.query(_minhash(own)):
            asked = self._asked[other]
            counts = other != request_hash and (before is None or asked.place < before)
            if counts and similarity(own, shingles(asked.text)) >= self._threshold:
                return str(other)
        return ""

    def add(self, asked: Asked) -> None:
        """A request has one question: a later one takes the place of an earlier."""
        there = self._asked.get(asked.request_hash)
        if there is not None and there.text == asked.text:
            self._asked[asked.request_hash] = asked if asked.logged else there
            return
        if there is not None:
            self._forget(asked.request_hash)
        self._hashes.insert(asked.request_hash, _minhash(shingles(asked.text)))
        self._asked[asked.request_hash] = asked
        if len(self._asked) > self._size:
            self._forget(next(iter(self._asked)))

    def withdraw(self, request_hash: str) -> None:
        """What this process was about to ask and did not, because a model was away, is in nobody's way."""
        there = self._asked.get(request_hash)
        if there is not None and not there.logged:
            self._forget(request_hash)

    def _forget(self, request_hash: str) -> None:
        self._hashes.remove(request_hash)
        del self._asked[request_hash]


def _minhash(of: frozenset[str]) -> Any:
    from datasketch import MinHash

    hashed = MinHash(num_perm=_HASHES)
    hashed.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in sorted(of)])
    return hashed


@dataclass
class _Run:
    index: Index
    offset: int = 0  # of the feedback log: all before it is in the index
    reads: int = 0  # begun
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class EarlierQuestions:
    """The indices of the runs that this service works for. `log_of` gives the log that holds a run."""

    def __init__(self, log_of: Callable[[str], LogReader]) -> None:
        self._log_of = log_of
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    async def of(self, run_id: str, threshold: float) -> Index:
        """The run's index with all in it that the feedback log holds now. Raises LogError."""
        run = self._runs.setdefault(run_id, _Run(Index(threshold)))
        self._runs.move_to_end(run_id)
        while len(self._runs) > RUNS_MAX:
            self._runs.popitem(last=False)
        reads = run.reads
        async with run.reading:
            if run.reads == reads:  # else a reading that began after this call has read all that is needed
                run.reads += 1
                await self._read_on(run_id, run)
        return run.index

    def withdraw(self, run_id: str, request_hash: str) -> None:
        """What was not asked after all."""
        if run_id in self._runs:
            self._runs[run_id].index.withdraw(request_hash)

    async def _read_on(self, run_id: str, run: _Run) -> None:
        found, end = await in_thread(lambda: self._found(run_id, run.offset))
        for number, asked in enumerate(found, 1):
            run.index.add(asked)
            if number % _INSERTED_AT_ONCE == 0:
                await asyncio.sleep(0)
        run.offset = end

    def _found(self, run_id: str, start: int) -> tuple[list[Asked], int]:
        found: list[Asked] = []
        end = start
        for offset, event in feedback_events(self._log_of(run_id), start):
            end = offset + 1
            if event.run_id == run_id:
                found.extend(_asked(event))
        return found[-QUESTIONS_MAX:], end


def _asked(event: Event) -> Iterator[Asked]:
    kind = event.WhichOneof("body") or ""
    if kind in _ASKED_IN:
        body = getattr(event, kind)
        if body.question:
            yield Asked(body.request_hash, body.question, (event.round, event.step), logged=True)
