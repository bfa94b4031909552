"""Answers that take no part: those that decline to answer, and those that were cut."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.answer_gates import declines, why_out

DECLINES = {
    "en": [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I can’t assist with that request.",
        "Sorry, I cannot answer this question.",
        "I cannot provide instructions for that.",
        "I can't help with this.",
        "**I'm unable to assist** with this.",
        "I am not able to answer that.",
        "I won't help with that.",
        "As an AI language model, I cannot have opinions.",
        "As an AI, I don't have access to this.",
        "> I apologize, but I am unable to fulfill this request.",
        "Unfortunately, I can't share that.",
    ],
    "es": ["Lo siento, pero no puedo ayudar con eso.", "No puedo responder a esa pregunta."],
    "fr": ["Je suis désolé, mais je ne peux pas répondre.", "Je ne peux pas vous aider."],
    "de": ["Es tut mir leid, aber ich kann dabei nicht helfen.", "Ich kann diese Frage leider nicht beantworten."],
    "pt": ["Desculpe, mas não posso ajudar com isso.", "Não posso responder."],
    "it": ["Mi dispiace, ma non posso aiutarti.", "Non posso rispondere a questa domanda."],
    "zh": ["抱歉，我无法回答这个问题。", "对不起，我不能提供帮助。", "我无法回答。"],
    "ja": ["申し訳ありませんが、その質問にはお答えできません。"],
    "ru": ["Извините, но я не могу помочь.", "Я не могу ответить на этот вопрос."],
}
ANSWERS = [
    "I cannot be divided by any number but one and myself: I am a prime.",
    '"I\'m sorry, Dave" is said by HAL 9000.',
    "Sorry is an apology; unfortunately is an adverb.",
    "The model replied: I'm sorry, but I can't help with that.",
    "Photosynthesis turns light into sugar. I cannot help but add: and oxygen.",
    "I can help: the answer is 4.",
    "As an AI researcher would put it, the loss is convex.",
    "Can't, won't and mustn't are contractions.",
    "No puedo is Spanish for I cannot.",
    "Unfortunately for Napoleon, Waterloo was lost.",
    "抱歉 means sorry.",
    "Es tut mir leid ist eine Entschuldigung.",
    "",
    "42",
]


@pytest.mark.parametrize(("language", "text"), [(of, text) for of, texts in DECLINES.items() for text in texts])
def test_an_answer_that_declines_is_seen_in_its_first_words(language: str, text: str) -> None:
    assert declines(text) == language
    assert declines(f"\n\n  {text}\nIs there anything else?") == language


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_that_speaks_of_refusals_or_begins_like_one_is_an_answer(text: str) -> None:
    assert declines(text) == ""


@pytest.mark.parametrize(("language", "text"), [(of, text) for of, texts in DECLINES.items() for text in texts])
def test_only_the_start_counts(language: str, text: str) -> None:
    assert declines(f"The answer is 4. {text}") == ""


@pytest.mark.parametrize(
    ("text", "cut", "drop_refusals", "drop_cut", "gate"),
    [
        ("I can't help with this.", True, True, True, "refusal"),
        ("I can't help with this.", True, False, True, "cut"),
        ("I can't help with this.", False, False, False, ""),
        ("It is 4 becau", True, True, True, "cut"),
        ("It is 4 becau", True, True, False, ""),
        ("It is 4.", False, True, True, ""),
    ],
)
def test_each_gate_can_be_off(text: str, cut: bool, drop_refusals: bool, drop_cut: bool, gate: str) -> None:
    assert why_out(text, cut, drop_refusals, drop_cut)[0] == gate


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["I", "am", "sorry", ",", "but", "can't", "as an ai", "```", "抱歉", "\ud800"])).map(
            " ".join
        ),
    )
)
def test_no_text_breaks_the_reader(text: str) -> None:
    assert declines(text) in ("", *DECLINES)


@pytest.mark.parametrize("part", ["I am sorry ", "as an ai ", "i'm ", "ich kann leider ", "\n", "抱歉", "*"])
def test_a_megabyte_is_read_in_a_moment(part: str) -> None:
    text = part * (1_000_000 // len(part))
    start = time.perf_counter()
    declines(text)
    assert time.perf_counter() - start < 0.5
