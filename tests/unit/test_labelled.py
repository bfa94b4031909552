"""The parser held to what a real model wrote and a reader made of it: tests/real/labelled.jsonl says who, and how."""

from collections import Counter

from tests.real.labels import labelled, read

AGREEMENT = 0.85


def test_there_are_fifty_labelled_replies_of_three_kinds_good_ones_and_bad() -> None:
    replies = labelled()
    assert len(replies) >= 50 and len({(reply["asked"], reply["said"]) for reply in replies}) == len(replies)
    assert min(Counter(reply["kind"] for reply in replies).values()) >= 15
    assert 15 <= sum(reply["label"] in (None, []) for reply in replies) <= len(replies) / 2


def test_the_parser_reads_seventeen_in_twenty_as_the_reader_did() -> None:
    replies = labelled()
    agree = sum(read(reply) == reply["label"] for reply in replies)
    print(f"{agree} of {len(replies)} labelled replies are read as they were labelled")
    assert agree >= AGREEMENT * len(replies)


def test_where_the_parser_reads_otherwise_the_file_says_so_and_nowhere_else() -> None:
    differ = [reply["said"] for reply in labelled() if read(reply) != reply["label"]]
    assert differ == [reply["said"] for reply in labelled() if reply.get("differs")]
