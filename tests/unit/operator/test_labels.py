"""Names and labels fit what Kubernetes takes, and differ where their origins differ."""

from __future__ import annotations

import re

import pytest

from toril_operator import labels

LABEL = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")


def test_a_short_name_is_kept() -> None:
    assert labels.part_name("email") == "jq-email"
    assert labels.part_name("a" * 44) == "jq-" + "a" * 44


@pytest.mark.parametrize("name", ["a" * 45, "a" * 52, "a" * 36 + "." + "b" * 14, "a" * 35 + "-" * 10 + "z"])
def test_a_long_name_is_cut_and_stays_distinct(name: str) -> None:
    part = labels.part_name(name)
    assert len(part) <= labels.MAX_PART_NAME
    assert LABEL.match(part)
    assert part != labels.part_name(name[:-1] + "y")


@pytest.mark.parametrize("text", ["email", "e mail", "ä", "", "-x-", "a" * 200, "a/b:c", "..", "queue_1"])
def test_any_text_becomes_a_label(text: str) -> None:
    assert LABEL.match(labels.label_value(text))


def test_labels_of_different_texts_differ() -> None:
    texts = ["a b", "a_b", "a/b", "a" * 64, "a" * 65]
    assert len({labels.label_value(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(
    ("pod", "is_one"),
    [
        ("jq-email-5cd4cf4ffb-7h9t5", True),
        ("jq-email-high-5cd4cf4ffb-7h9t5", False),
        ("jq-emails-5cd4cf4ffb-7h9t5", False),
        ("jq-email", False),
        ("", False),
        ("laptop", False),
    ],
)
def test_whose_pod_it_is(pod: str, is_one: bool) -> None:
    assert labels.is_pod_of("jq-email", pod) is is_one
