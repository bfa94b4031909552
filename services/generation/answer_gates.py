"""Gates that an answer passes before it takes part: it answers at all, and the token limit did not cut it. Pure."""

from __future__ import annotations

import re

_LOOKED_AT_CHARS = 400  # of an answer's beginning: one that only speaks of refusals further on is an answer
_MARKS = " \t\r\n\"'`*_>#«»“”„‘’"  # what may stand before the first word
_APOLOGY = r"(?:i(?:'m| am) (?:very |really |so |truly )?sorry|sorry|my apologies|i apologi[sz]e|unfortunately)"
_HELP = r"(?:help|assist|answer|provide|comply|fulfil+|discuss|do that|do this|respond|engage|complete this)"
_CANNOT = r"(?:can(?:'t|not| not)|won't|will not|(?:'m| am) (?:unable|not (?:able|going|allowed|permitted)) to)"
# By language; each must say at once that the writer will not answer, in the first person. A pattern that would also fit
# the beginning of an answer ("I cannot be divided", a riddle) is worse than one that is missing.
_REFUSALS = {
    "en": (
        rf"(?:{_APOLOGY}[,.;:!]? ?(?:but )?)?i ?{_CANNOT} {_HELP}\b",
        rf"{_APOLOGY}[,.;:!]? ?(?:but )?(?:i|as an ai)\b[^.]{{0,80}}{_CANNOT}",
        rf"as an ai\b[^.]{{0,80}}\bi ?(?:{_CANNOT}|do(?:n't| not) have|(?:'m| am) not)\b",
    ),
    "es": (
        r"(?:lo siento|disculpa|lamento)\b[^.]{0,40}\bno puedo\b",
        r"no puedo (?:ayudar|responder|cumplir|proporcionar|asistir)",
    ),
    "fr": (
        r"(?:je suis )?(?:désolée?|navrée?)\b[^.]{0,40}\bje ne (?:peux|puis) pas\b",
        r"je ne (?:peux|puis) pas (?:vous |t')?(?:aider|répondre|fournir)",
    ),
    "de": (
        r"(?:es )?tut mir leid\b[^.]{0,40}\b(?:kann|darf) ich\b",
        r"(?:es )?tut mir leid\b[^.]{0,40}\bich (?:kann|darf)\b",
        r"ich (?:kann|darf) (?:(?:ihnen|dir|dabei|damit|diese frage|leider) ){0,3}nicht (?:helfen|(?:be)?antworten)",
    ),
    "pt": (
        r"(?:desculpe|sinto muito|lamento)\b[^.]{0,40}\bnão posso\b",
        r"não posso (?:ajudar|responder|fornecer)",
    ),
    "it": (
        r"mi dispiace\b[^.]{0,40}\bnon posso\b",
        r"non posso (?:aiutar|risponder|fornir)",
    ),
    "zh": (
        r"很?(?:抱歉|对不起|對不起)[,，。]?\s*我?(?:无法|不能|無法)",
        r"我(?:无法|不能|無法)(?:回答|提供|帮助|幫助)",
    ),
    "ja": (r"申し訳(?:ありません|ございません)[^。]{0,10}[。、が]?[^。]{0,30}(?:できません|いたしかねます)",),
    "ru": (
        r"(?:извините|простите|к сожалению)\b[^.]{0,20}\bя не могу\b",
        r"я не могу (?:помочь|ответить|предоставить)",
    ),
}
_REFUSES = {language: re.compile("|".join(f"(?:{p})" for p in patterns)) for language, patterns in _REFUSALS.items()}
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})


def declines(text: str) -> str:
    """The language in which an answer declines to answer, in its first words; empty when it does not."""
    start = " ".join(text[:_LOOKED_AT_CHARS].translate(_APOSTROPHES).lstrip(_MARKS).casefold().split())
    return next((language for language, pattern in _REFUSES.items() if pattern.match(start)), "")


def why_out(text: str, cut: bool, drop_refusals: bool, drop_cut: bool) -> tuple[str, str]:
    """(gate, reason) by which an answer takes no part, or two empty texts. `cut`: the token limit ended it."""
    if drop_refusals and (language := declines(text)):
        return "refusal", f"declines to answer ({language})"
    if drop_cut and cut:
        return "cut", "cut by the token limit"
    return "", ""
