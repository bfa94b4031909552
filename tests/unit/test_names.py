"""Names of domains: what may name one, and when two names are one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bohdi_common.core import names

texts = st.text(st.characters(codec="utf-8", categories=["L", "N", "Zs", "Cc", "P"]), max_size=80)


@pytest.mark.parametrize(
    "name",
    [
        "C++", "C#", "DNA", ".NET", "R", "3D Printing", "AT&T v. Mobility", "Poincaré's conjecture", "الجبر الخطي",
        "कृत्रिम बुद्धिमत्ता", "量子力学", "Квантовая механика", "נוירולוגיה", "ปรัชญา", "می‌خواهم",
        "2.5D Graphics", "-omics", "a" * names.MAX_NAME_CHARS,
    ],
)  # fmt: skip
def test_a_name_of_any_script_is_taken(name: str) -> None:
    assert names.why_refused(names.tidy(name)) == ""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        ("a" * 65, "longer"),
        ("a\x07b", "control"),
        ("safe\u202egnp", "control"),  # turns the direction of what follows
        ("a\ue000b", "control"),
        ("\u3164", "no letter"),  # Hangul filler: a letter to Unicode, nothing to the eye
        ("<b>Physics</b>", "markup"),
        ("**Physics**", "markup"),
        ("`code`", "markup"),
        ("- Physics", "markup"),
        ("# Physics", "markup"),
        ("12. Physics", "markup"),
        ("(3) Physics", "markup"),
        ("128. Physics", "markup"),
        ("?!", "no letter"),
        ("unk", "reserved"),
        ("R O O T", "reserved"),
        ("None", "reserved"),
        ("Other", "reserved"),
        ("OTHERS", "reserved"),
        ("misc", "reserved"),
        ("Miscellaneous", "reserved"),
        *((f"Physics{end}", "sentence") for end in ".:;,?!"),
    ],
)
def test_what_cannot_name_a_domain_is_refused_with_the_reason(name: str, why: str) -> None:
    assert why in names.why_refused(names.tidy(name))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Linear Algebra", "linear  algebra"),
        ("Data Base", "database"),
        ("STRASSE", "straße"),
        ("ΣΟΦΟΣ", "σοφος"),
        ("Ｐｈｙｓｉｃｓ", "physics"),
        ("Poincare\u0301", "Poincaré"),
        ("می‌خواهم", "میخواهم"),
        ("DNA", "Dna"),
        ("ΐ", "ΐ".upper()),  # three signs, which fold to another form than the one sign does
    ],
)
def test_case_space_and_form_do_not_make_another_name(one: str, other: str) -> None:
    assert names.key(one) == names.key(other)


@pytest.mark.parametrize(("one", "other"), [("C", "C++"), ("C++", "C#"), ("F", "F#"), ("数学", "数字")])
def test_signs_that_carry_meaning_make_another_name(one: str, other: str) -> None:
    assert names.key(one) != names.key(other)


def test_a_name_is_shown_as_it_was_written() -> None:
    assert names.tidy("  DNA \n repair ") == "DNA repair"


@given(texts)
def test_tidying_changes_neither_the_tidied_nor_what_it_compares_to(name: str) -> None:
    assert names.tidy(names.tidy(name)) == names.tidy(name)
    assert names.key(names.tidy(name)) == names.key(name)


@given(st.text(st.characters(codec="utf-8"), max_size=80))
def test_every_text_is_either_taken_or_refused(name: str) -> None:
    tidied = names.tidy(name)
    if not names.why_refused(tidied):
        assert 0 < len(tidied) <= names.MAX_NAME_CHARS
        assert names.key(tidied)
