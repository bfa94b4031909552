"""A run as files: tables, a database that can only be read, training sets that `datasets` loads and TRL trains on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from bohdi import open_run
from bohdi.cli import Exit, app
from bohdi.exports import columns, database, parquet
from bohdi.exports.run_tables import CONTENTS, export
from bohdi.exports.training_sets import export_data
from bohdi.exports.views import VIEWS
from bohdi.microworld import WEIGHTS
from bohdi.run_folder import NoRun, RunFolder
from bohdi.run_places import FolderPlace
from bohdi_common.core.state import state_sha256
from bohdi_common.events import codec
from bohdi_common.events.events_pb2 import Event, Score, TargetEvaluated
from bohdi_common.models.versions import VersionStore
from bohdi_common.runtime.config import BadConfig
from bohdi_common.runtime.shell import record_of
from tests.forked import TIMEOUT_S, bohdi
from tests.integration.test_ask_the_log import in_folder
from tests.integration.test_bad_input import complaint
from tests.integration.test_verify_folder import append
from tests.recorded_run import RecordedRun, settings

EVIL = "\x1b]0;owned\x07\x9b2J \u202egpj <script>| [x](y)"


def evaluated(run_id: str, version: str) -> Event:
    scored = TargetEvaluated(model="target", version=version, benchmark="/some/where/heldout.jsonl")
    scored.scores.append(Score(domain="m0", accuracy=0.5, questions=20))
    scored.scores.append(Score(domain="m1", accuracy=1.0, questions=20))
    event_id = f"evaluated {version}"
    return Event(event_id=event_id, run_id=run_id, schema_version=1, producer="evaluation", target_evaluated=scored)


@pytest.fixture(scope="module")
def feedback() -> list[Event]:
    """A recorded run with an evaluation, and with a judge whose words are meant to do harm."""
    told = settings(3, bandit={"introspection": "paper"}, training={"held_back_share": 0.2})
    run = RecordedRun(seed=3, settings=told, away=0.03, withheld=0.05)
    run.run()
    judged = next(event.harvest_judged for event in run.feedback if event.harvest_judged.verdicts)
    judged.verdicts[0].reply = EVIL
    return [*run.feedback, evaluated(run.run_id, "r2")]


@pytest.fixture(scope="module")
def folder(feedback: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "run"
    folder.mkdir()
    append(folder, map(record_of, feedback))
    return folder


@pytest.fixture(scope="module")
def tables(folder: Path) -> Path:
    export(FolderPlace(RunFolder(folder)), folder.parent / "tables")
    return folder.parent / "tables"


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    export_data(FolderPlace(RunFolder(folder)), folder.parent / "data")
    return folder.parent / "data"


def done(*arguments: str | Path) -> str:
    """What the command prints, in this process."""
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    assert ended.exception is None, ended.exception
    return ended.stdout


def refused(*arguments: str | Path) -> str:
    """The one line with which the command ends."""
    ended = CliRunner().invoke(app, list(map(str, arguments)))
    assert isinstance(ended.exception, BadConfig | NoRun | codec.NewerSchema), ended.exception
    assert "\n" not in str(ended.exception)
    return str(ended.exception)


def contents(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONTENTS).read_text())


def hashed_otherwise(*arguments: str | Path) -> None:
    """The command, in a process of another hash seed."""
    command = [sys.executable, "-m", "bohdi", *map(str, arguments)]
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S, env=environment)


def files(folder: Path) -> dict[str, bytes]:
    there = (path for path in folder.rglob("*") if path.is_file() and path.name != database.DATABASE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in there}


def asked(folder: Path, query: str) -> Sequence[Sequence[Any]]:
    return database.ask(folder / database.DATABASE, query, limit=100_000, timeout_s=TIMEOUT_S).rows


def test_parquet_files_have_the_rows_that_the_log_has(folder: Path, tables: Path, feedback: list[Event]) -> None:
    rows = {table.name: pq.read_metadata(tables / database.file_of(table.name)).num_rows for table in columns.TABLES}
    kinds = Counter(map(codec.kind_of, feedback))
    assert rows == contents(tables)["rows"]
    assert (rows["events"], rows["run"]) == (len(feedback), 1)
    assert rows["harvests"] == kinds["harvest_judged"]
    assert rows["answers"] == sum(len(event.harvest_judged.answers) for event in feedback)
    assert rows["verdicts"] == sum(len(event.harvest_judged.verdicts) for event in feedback)
    assert rows["trainings"] == kinds["training_drawn"]
    run = open_run(folder)
    assert rows["nodes"] == sum(run.state().tree.nodes_by_level[1:])
    assert contents(tables)["state_sha256"] == state_sha256(run.state())


def test_two_exports_are_the_same_bytes_and_the_databases_the_same_rows(folder: Path, tables: Path) -> None:
    again = folder.parent / "tables again"
    hashed_otherwise("export", folder, "--to", again)
    assert files(again) == files(tables)
    names = [*(table.name for table in columns.TABLES), *(view.name for view in VIEWS)]
    for name in names:
        assert asked(again, f"FROM {name}") == asked(tables, f"FROM {name}")
    comments = "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    assert asked(again, comments) == asked(tables, comments)
    assert all(comment for *_, comment in asked(tables, comments))


def test_two_training_sets_are_the_same_bytes(folder: Path, data: Path) -> None:
    again = folder.parent / "data again"
    hashed_otherwise("export-data", folder, "--to", again)
    assert files(again) == files(data)


def test_the_database_has_the_rows_of_the_files_and_its_views_answer(tables: Path, feedback: list[Event]) -> None:
    for table in columns.TABLES:
        assert asked(tables, f"SELECT count(*) FROM {table.name}")[0][0] == contents(tables)["rows"][table.name]
    for view in VIEWS:
        found = database.ask(tables / database.DATABASE, f"FROM {view.name}", limit=9, timeout_s=TIMEOUT_S)
        assert found.columns == list(view.columns)
    samples = asked(tables, "SELECT count(*), sum(draws) FROM samples")[0]
    state = open_run(tables.parent / "run").state()
    assert samples[0] == state.pair_count + sum(map(len, state.rehearsals.values()))
    assert samples[1] == sum(len(event.training_drawn.samples) for event in feedback)
    assert asked(tables, "SELECT version, mean FROM scores") == [("r2", 0.75)]
    assert [row[0] for row in asked(tables, "SELECT version FROM versions WHERE promoted")] == state.versions[1:]


def test_sql_answers_people_and_programs_and_says_when_there_is_more(folder: Path, tables: Path) -> None:
    shown = bohdi("sql", tables, "SELECT reply FROM verdicts ORDER BY sequence, number", "--limit", "50")
    assert (shown.returncode, shown.stderr) == (Exit.DONE, "")
    assert "\\x1b]0;owned" in shown.stdout and "and more" in shown.stdout
    assert shown.stdout.replace("\n", "").isprintable()
    told = done("sql", folder, "SELECT count(*) AS n, 0.5 AS half FROM events", "--json")
    assert json.loads(told) == {"rows": [{"n": contents(tables)["events"], "half": 0.5}], "more": False}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("COPY wins TO 'x.csv'", "one SELECT"),
        ("DROP TABLE events", "one SELECT"),
        ("CREATE TEMP TABLE t AS SELECT 1", "one SELECT"),
        ("SET memory_limit = '90GB'", "one SELECT"),
        ("SELECT 1; SELECT 2", "one SELECT"),
        ("", "one SELECT"),
        ("SELECT * FROM read_text('/etc/hostname')", "file system operations are disabled"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELEC", "syntax error"),
        ("SELECT count(*) FROM range(1000000) a, range(1000000) b, range(1000000) c", "no answer within 0.5 s"),
    ],
)
def test_sql_can_only_read_and_only_so_long(tables: Path, query: str, why: str) -> None:
    with pytest.raises(BadConfig, match=why) as error:
        database.ask(tables / database.DATABASE, query, limit=10, timeout_s=0.5 if "range" in query else TIMEOUT_S)
    assert "\n" not in str(error.value)
    assert not Path("x.csv").exists()


def test_a_training_set_loads_offline_and_plain_trl_trains_on_it(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    sets = {name: datasets.load_dataset(str(data), name, cache_dir=str(tmp_path)) for name in ("sft", "preferences")}
    state = open_run(folder).state()
    assert sum(part.num_rows for part in sets["sft"].values()) == state.pair_count + state.counts["rehearsals"]
    assert set(sets["sft"]) == {"train", "test"}
    assert all(row["chosen"] != row["rejected"] for row in sets["preferences"]["train"])
    arguments = SFTConfig(
        output_dir=str(tmp_path / "out"), max_steps=1, per_device_train_batch_size=4, use_cpu=True, bf16=False,
        report_to="none", save_strategy="no", gradient_checkpointing=False, max_length=64,
    )  # fmt: skip
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(WEIGHTS / "target"),
        args=arguments,
        train_dataset=sets["sft"]["train"],
        processing_class=AutoTokenizer.from_pretrained(WEIGHTS / "target"),
    )
    assert trainer.train().training_loss > 0


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def test_cards_say_what_the_log_says_and_name_no_folder_of_this_machine(tables: Path, data: Path) -> None:
    model = (tables / "cards" / "r2.md").read_text()
    (result,) = front_matter(model)["model-index"][0]["results"]
    assert result["dataset"]["name"] == "heldout.jsonl"
    assert result["metrics"] == [{"type": "accuracy", "value": 0.75}]
    assert "from r1" in model and "/some/where" not in model
    assert "was not evaluated" in (tables / "cards" / "r1.md").read_text()
    dataset = front_matter((data / "README.md").read_text())
    assert [config["config_name"] for config in dataset["configs"]] == ["sft", "preferences"]


def test_an_exported_model_comes_with_its_card(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    run = RecordedRun(seed=3, settings=settings(3), versions=VersionStore(folder.versions))
    run.run()
    append(folder.path, map(record_of, run.feedback))
    done("export-model", "last", folder.path)
    export(FolderPlace(folder), tmp_path / "tables")
    card = (folder.path / "export" / "r2" / "README.md").read_text()
    assert card == (tmp_path / "tables" / "cards" / "r2.md").read_text()
    promoted = next(event.target_promoted for event in run.feedback if event.target_promoted.version == "r2")
    assert promoted.manifest_digest in card


def test_a_card_holds_the_words_of_others_as_text(feedback: list[Event], tmp_path: Path) -> None:
    started = Event()
    started.CopyFrom(feedback[0])
    started.run_started.settings.target.name = EVIL
    started.run_started.settings.preset = EVIL
    place = FolderPlace(RunFolder(in_folder(tmp_path, [started, *feedback[1:]])))
    export(place, tmp_path / "tables")
    card = (tmp_path / "tables" / "cards" / "r2.md").read_text()
    assert "\\<script\\>" in card and "<script>" not in card
    assert card.replace("\n", "").isprintable()


def test_row_groups_end_by_rows_and_by_text_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_ROWS", 10)
    monkeypatch.setattr(parquet, "_CHARS", 100)
    rows = [(n, n, "a", "text " * (n % 50), n, "") for n in range(95)]
    with parquet.ParquetFiles(tmp_path, [(columns.PROPOSALS, "p.parquet")]) as written:
        for row in rows:
            written.add(columns.PROPOSALS, row)
    assert written.rows == {"proposals": 95}
    found = pq.ParquetFile(tmp_path / "p.parquet")
    assert found.num_row_groups > 10
    assert [tuple(row.values()) for row in found.read().to_pylist()] == rows


def test_the_library_has_the_tables_and_the_provenance_that_the_commands_have(folder: Path, tables: Path) -> None:
    run = open_run(folder)
    assert run.harvests().equals(pq.read_table(tables / "harvests.parquet"))
    assert run.table("verdicts").num_rows == contents(tables)["rows"]["verdicts"]
    assert run.nodes().equals(pq.read_table(tables / "nodes.parquet"))
    assert run.sql("SELECT count(*) AS n FROM events").to_pylist() == [{"n": contents(tables)["events"]}]
    assert json.loads(done("why", "version", "last", folder, "--json")) == run.why_version("last")
    with pytest.raises(BadConfig, match="there are events, usage"):
        run.table("nothing")


def test_a_folder_that_stands_is_not_written_into_and_a_failed_export_leaves_none(folder: Path, tables: Path) -> None:
    assert "exists already" in refused("export", folder, "--to", tables)
    before = sorted(folder.parent.iterdir())
    with pytest.raises(BadConfig):
        export_data(FolderPlace(RunFolder(folder)), tables)
    assert sorted(folder.parent.iterdir()) == before


COMMANDS = [
    ("why", "sample", "1", "{}"),
    ("why", "node", "m0", "{}"),
    ("why", "version", "r1", "{}"),
    ("export", "{}", "--to", "{}-new"),
    ("sql", "{}", "FROM events"),
    ("export-data", "{}", "--to", "{}-new"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_empty_log_is_one_clear_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    folder = in_folder(tmp_path, [])
    assert "no RunStarted" in refused(*(part.format(folder) for part in command))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_without_a_verdict_has_tables_and_no_training_set(feedback: list[Event], tmp_path: Path) -> None:
    folder = in_folder(tmp_path, feedback[:3])
    assert export(FolderPlace(RunFolder(folder)), tmp_path / "tables")["rows"]["events"] == 3
    assert "no sample yet" in refused("export-data", folder, "--to", tmp_path / "data")


def test_a_log_of_a_newer_schema_is_one_clear_line(feedback: list[Event], tmp_path: Path) -> None:
    newer = Event(event_id="f" * 64, run_id="run", schema_version=codec.SCHEMA_VERSION + 1)
    newer.run_resumed.SetInParent()
    folder = in_folder(tmp_path, [feedback[0], newer])
    assert "newer Bohdi" in refused("export", folder, "--to", tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize(("absent", "arguments"), [("duckdb", ("export",)), ("pyarrow", ("export-data",))])
def test_a_library_that_is_not_installed_is_one_clear_line(
    folder: Path, tmp_path: Path, absent: str, arguments: tuple[str, ...]
) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None; from bohdi.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments, str(folder), "--to", str(tmp_path / "new")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert "pip install 'bohdi[analysis]'" in complaint(ended, Exit.MISTAKE)
