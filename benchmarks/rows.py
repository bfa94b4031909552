"""What a row of the table is, and how rows become the table and results.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measured:
    """A value and its unit; what it was measured against in the same run, and the ratio of the two (above 1: better
    than that)."""

    value: float
    unit: str
    against: str
    ratio: float


@dataclass(frozen=True)
class Floor:
    """What a row should reach: `limit` at least (`most`: at most), of its value or of its ratio."""

    limit: float
    most: bool = False
    ratio: bool = False

    def met(self, measured: Measured) -> bool:
        reached = measured.ratio if self.ratio else measured.value
        return reached <= self.limit if self.most else reached >= self.limit

    def __str__(self) -> str:
        return f"{'<=' if self.most else '>='} {self.limit:,g}{' x' if self.ratio else ''}"


@dataclass(frozen=True)
class Row:
    name: str
    measure: Callable[[], Measured]
    floor: Floor | None = None


@dataclass(frozen=True)
class Result:
    """A row of results.json. `floor` is the bare number; `rule` says how it is meant."""

    name: str
    value: float
    unit: str
    against: str
    ratio: float
    floor: float | None
    met: bool | None
    rule: str


def result(row: Row) -> Result:
    """Measures the row. Raises whatever its measurement raises."""
    measured, floor = row.measure(), row.floor
    return Result(
        row.name,
        **asdict(measured),
        floor=floor.limit if floor else None,
        met=floor.met(measured) if floor else None,
        rule=str(floor) if floor else "",
    )
