"""What ARCHITECTURE.md says of the code is what the code says. (Import rules are import-linter's.)"""

from pathlib import Path

from bohdi_common.events.topics import flow_table

ARCHITECTURE = Path(__file__).parents[2] / "ARCHITECTURE.md"


def test_the_flow_table_is_that_of_the_topic_registry() -> None:
    assert flow_table() in ARCHITECTURE.read_text(encoding="utf-8")
