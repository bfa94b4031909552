"""In which language a text is: refused is what is plainly in another one."""

import pytest

from bohdi_common.runtime.config import LANGUAGES
from services.generation.languages import _identifier, other_language


def test_the_languages_of_the_configuration_are_those_that_can_be_told() -> None:
    assert {label for label in _identifier().labels if len(label) == 2} == LANGUAGES


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Quelle est la capitale de la France ?", "fr"),
        ("Welche Stadt ist die Hauptstadt von Frankreich?", "de"),
        ("水的沸点是多少？", "zh"),
        ("Назовите три благородных газа и их применение.", "ru"),
    ],
)
def test_another_language_is_named(text: str, language: str) -> None:
    assert other_language(text, ["en", "es"]) == language
    assert other_language(text, ["en", language]) == ""


@pytest.mark.parametrize(
    "text",
    [
        "What is the boiling point of water at sea level?",
        "¿Cuál es la capital de Francia?",
        "42",
        "",
        "x = 1\nprint(x)",
        "def f(n):\n    return n * (n - 1) // 2",
        r"$\int_0^1 x dx = 1/2$",
        "Paris",
        "Photosynthesis.",
        "The derivative of x^2 is 2x.",
        "aGVsbG8gd29ybGQgdGhpcyBpcyBhIHRlc3Q=" * 5,
        "\ud800",
    ],
)
def test_what_is_in_a_language_of_the_run_or_in_none_that_can_be_told_passes(text: str) -> None:
    assert other_language(text, ["en", "es"]) == ""


def test_a_megabyte_is_looked_at_in_a_moment() -> None:
    assert other_language("Quelle est la capitale de la France ? " * 27_000, ["en"]) == "fr"
