"""What is kept of a run to its end, beside the tree and what sprouts were asked: 4 bytes per event (where a sample
belongs), 4 per sample (the order in which they were stored) and 8 per request."""

from __future__ import annotations

from array import array

import numpy as np

from bohdi.verify.ledger.slots import Sprout


class Samples:
    """The store that trainings are drawn from."""

    def __init__(self) -> None:
        self.leaves = array("i")  # per event: the leaf of a pair, minus the leaf of a rehearsal, 0 for no sample
        self.stored = array("I")  # run sequences of the samples, in the order in which they took effect
        self.pairs = self.rehearsals = 0


class Asked:
    """The requests that recorded decisions opened, settled or not, by their hashes."""

    def __init__(self) -> None:
        self.sprouts: dict[str, Sprout] = {}
        self.trainings: dict[str, tuple[int, int]] = {}  # round and step
        self._prefixes = array("Q")  # the first 64 bits of every harvest's, rehearsal's and sprout's

    def add(self, request_hash: str) -> None:
        prefix = prefix_of(request_hash)
        if prefix is not None:
            self._prefixes.append(prefix)

    def __contains__(self, request_hash: str) -> bool:
        prefix = prefix_of(request_hash)
        return prefix is not None and bool((np.frombuffer(self._prefixes, dtype=np.uint64) == prefix).any())


def prefix_of(derived: str) -> int | None:
    """The first 64 bits of an id or a request hash; None for what is none."""
    try:
        return int(derived[:16], 16) if len(derived) == 32 else None
    except ValueError:
        return None
