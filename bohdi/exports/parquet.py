"""Tables as parquet files, written row group by row group: memory does not grow with the run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bohdi.exports.columns import Table
from bohdi.exports.rows import Row
from bohdi_common.runtime.config import BadConfig

if TYPE_CHECKING:
    import pyarrow as pa

# A row group ends after so many rows, or so many characters of text: by what is in it, so that bytes reproduce.
_ROWS = 16_384
_CHARS = 16 * 1024 * 1024


def arrow() -> Any:
    """pyarrow, imported when it is asked for. Raises BadConfig where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BadConfig("tables need pyarrow: pip install 'bohdi[analysis]'") from None
    return pyarrow


def schema(table: Table) -> pa.Schema:
    """The table's columns with their types; what each says is its metadata."""
    pa = arrow()
    types = {
        "int": pa.int64(), "id": pa.uint64(), "real": pa.float64(), "text": pa.string(),
        "flag": pa.bool_(), "time": pa.timestamp("us"), "texts": pa.list_(pa.string()),
        "ints": pa.list_(pa.int64()),
        "messages": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
    }  # fmt: skip
    fields = [pa.field(c.name, types[c.type], metadata={"about": c.about}) for c in table.columns]
    return pa.schema(fields, metadata={"about": table.about})


def as_table(table: Table, rows: Iterable[Row]) -> pa.Table:
    """The rows in memory, as pyarrow has them."""
    pa, fields = arrow(), schema(table)
    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, fields, strict=True)], schema=fields)


class ParquetFiles:
    """A file for each table in `folder`, at its relative place in `files`. Used with `with`; `rows` counts what was
    written, by table."""

    def __init__(self, folder: Path, files: Sequence[tuple[Table, str]]) -> None:
        arrow()
        from pyarrow.parquet import ParquetWriter

        self._tables = {table.name: table for table, _ in files}
        self.rows = dict.fromkeys(self._tables, 0)
        self._kept: dict[str, list[Row]] = {name: [] for name in self._tables}
        self._chars = dict.fromkeys(self.rows, 0)
        self._writers: dict[str, Any] = {}
        for table, file in files:
            place = folder / file
            place.parent.mkdir(parents=True, exist_ok=True)
            self._writers[table.name] = ParquetWriter(place, schema(table), compression="zstd")

    def add(self, table: Table, row: Row) -> None:
        """The next row of a table."""
        name = table.name
        kept = self._kept[name]
        kept.append(row)
        self._chars[name] += sum(len(value) for value in row if type(value) is str)
        if len(kept) >= _ROWS or self._chars[name] >= _CHARS:
            self._flush(table)

    def _flush(self, table: Table) -> None:
        kept = self._kept[table.name]
        if kept:
            self._writers[table.name].write_table(as_table(table, kept), row_group_size=len(kept))
        self.rows[table.name] += len(kept)
        self._kept[table.name], self._chars[table.name] = [], 0

    def __enter__(self) -> ParquetFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            for table in self._tables.values():
                self._flush(table)
        for writer in self._writers.values():
            writer.close()
