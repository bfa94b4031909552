"""A run's tables in one DuckDB file, with the views of `views`; and SQL asked of it, which can only read."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bohdi.exports.columns import TABLES
from bohdi.exports.views import VIEWS
from bohdi_common.runtime.config import BadConfig

DATABASE = "run.duckdb"
_MEMORY = "1GB"
_FORMS = ("SELECT", "EXPLAIN")  # what may be asked; DuckDB takes FROM, DESCRIBE, SHOW and SUMMARIZE for SELECTs too


def duckdb() -> Any:
    """The library, imported when it is asked for. Raises BadConfig where it is not installed."""
    try:
        import duckdb as library
    except ImportError:
        raise BadConfig("SQL needs DuckDB: pip install 'bohdi[analysis]'") from None
    return library


def make(folder: Path) -> None:
    """The database of the parquet files in `folder`, beside them. Memory is bounded; the rows keep their order. Raises
    OSError, for a full disk say."""
    library = duckdb()
    connection = library.connect(str(folder / DATABASE), config={"memory_limit": _MEMORY, "threads": 1})
    try:
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table.name} AS FROM read_parquet({_text(folder / file_of(table.name))})")
            _comment(connection, "TABLE", table.name, table.about, {c.name: c.about for c in table.columns})
        for view in VIEWS:
            connection.execute(f"CREATE VIEW {view.name} AS {view.select}")
            _comment(connection, "VIEW", view.name, view.about, view.columns)
    except library.Error as error:
        raise OSError(errno.EIO, _line(error), str(folder / DATABASE)) from None
    finally:
        connection.close()


def file_of(table: str) -> str:
    """The parquet file of a table."""
    return f"{table}.parquet"


def _comment(connection: Any, kind: str, name: str, about: str, columns: dict[str, str]) -> None:
    connection.execute(f"COMMENT ON {kind} {name} IS {_text(about)}")
    for column, told in columns.items():
        connection.execute(f"COMMENT ON COLUMN {name}.{column} IS {_text(told)}")


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


@dataclass(frozen=True)
class Found:
    """An answer in SQL: its rows, `limit` at most, and whether there are `more`."""

    columns: list[str]
    rows: list[Sequence[Any]]
    more: bool


def ask(database: Path, query: str, limit: int, timeout_s: float) -> Found:
    """One SELECT. It can read this database and nothing else: no other file, no network, no write; it is ended after
    `timeout_s`. Raises BadConfig with one line for what is no such question, or fails."""
    with _asked(database, timeout_s) as cursor:
        _look_at(cursor, query)
        cursor.execute(query)
        columns = [name for name, *_ in cursor.description]
        rows = cursor.fetchmany(limit + 1)
    return Found(columns, rows[:limit], len(rows) > limit)


def arrow(database: Path, query: str, timeout_s: float) -> Any:
    """The same, whole, as a table of pyarrow."""
    with _asked(database, timeout_s) as cursor:
        _look_at(cursor, query)
        return cursor.sql(query).to_arrow_table()


@contextmanager
def _asked(database: Path, timeout_s: float) -> Iterator[Any]:
    library = duckdb()
    config = {"memory_limit": _MEMORY, "threads": 1, "enable_external_access": "false", "lock_configuration": "true"}
    connection = None
    try:
        connection = library.connect(str(database), read_only=True, config=config)
        clock = threading.Timer(timeout_s, connection.interrupt)
        clock.daemon = True
        clock.start()
        try:
            yield connection
        finally:
            clock.cancel()
    except library.InterruptException:
        raise BadConfig(f"sql: no answer within {timeout_s:g} s: ask for less, or give --timeout") from None
    except library.OutOfMemoryException:
        raise BadConfig(f"sql: the question wants more than {_MEMORY} of memory: ask for less") from None
    except library.IOException as error:
        raise BadConfig(f"{database}: {_line(error)}: export the run again") from None
    except library.Error as error:
        raise BadConfig(f"sql: {_line(error)}") from None
    finally:
        if connection is not None:
            connection.close()


def _look_at(connection: Any, query: str) -> None:
    """Raises BadConfig for all but one question that only reads."""
    statements = connection.extract_statements(query)
    if len(statements) != 1 or str(statements[0].type).rpartition(".")[2] not in _FORMS:
        raise BadConfig("sql: give one SELECT: tables and views are those of docs/exports.md, or of `SHOW TABLES`")


def _line(error: Exception) -> str:
    """The first lines of what DuckDB says, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])
