"""Which samples of a run are never trained on, so that a training can be measured on them."""

from __future__ import annotations

from bohdi_common.core.ids import derived_id


def is_held_back(run_id: str, sequence: int, share: float) -> bool:
    """Whether the sample at run sequence `sequence` is held back when `share` (0 to 1) of all are. By a hash, so that
    all trainings of a run, and whoever checks them, agree; with a larger share none comes back."""
    digest = derived_id(run_id, "held_back", sequence)
    return int(digest, 16) < share * 16 ** len(digest)
