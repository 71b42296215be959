"""Names and notes of events, within what the API server takes."""

from __future__ import annotations

import re

import pytest

from toril_operator.event_recorder import MAX_NAME, event_name, shorten

SUFFIX = "0123456789abcdef"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def test_a_name_that_fits_is_kept_whole() -> None:
    assert event_name("mail", SUFFIX) == f"mail.{SUFFIX}"
    assert event_name("n" * 236, SUFFIX) == f"{'n' * 236}.{SUFFIX}"


@pytest.mark.parametrize(
    "name",
    ["n" * 237, "n" * 253, f"{'n' * 235}.{'n' * 17}", f"{'n' * 234}--{'n' * 17}", f"{'n' * 235}-{'n' * 17}"],
)
def test_a_longer_name_is_cut_to_a_name(name: str) -> None:
    cut = event_name(name, SUFFIX)
    assert len(cut) <= MAX_NAME
    assert SUBDOMAIN.fullmatch(cut)
    assert cut.endswith(f"n.{SUFFIX}")


@pytest.mark.parametrize(
    ("text", "shortened"),
    [
        ("short", "short"),
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1021 + "…"),
        ("é" * 512, "é" * 512),
        ("é" * 513, "é" * 510 + "…"),
        ("→ " * 400, "→ " * 255 + "…"),
        ("😀" * 300, "😀" * 255 + "…"),
        ("\ud800", "?"),
    ],
)
def test_a_note_is_cut_by_bytes_between_characters(text: str, shortened: str) -> None:
    assert shorten(text, 1024) == shortened
    assert len(shorten(text, 1024).encode()) <= 1024
