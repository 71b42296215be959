"""Delays between attempts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril import errors
from toril.jobs.backoff import Backoff, retry_delay_ms


def half() -> float:
    return 0.5


@pytest.mark.requirement("Z-18", "T13")
def test_exponential_doubles_from_its_delay() -> None:
    backoff = Backoff("exponential", 5000)
    assert [retry_delay_ms(backoff, attempt, half) for attempt in (1, 2, 3)] == [5000, 10000, 20000]


def test_fixed_stays() -> None:
    assert [retry_delay_ms(Backoff("fixed", 700), attempt, half) for attempt in (1, 2, 9)] == [700, 700, 700]


@pytest.mark.parametrize("backoff", [None, Backoff("fixed", 0), Backoff("exponential", 0)])
def test_no_delay_means_at_once(backoff: Backoff | None) -> None:
    assert retry_delay_ms(backoff, 1, half) == 0


@pytest.mark.wire(30)
@given(st.floats(0, 1), st.integers(0, 100_000), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_at_most_its_share(jitter: float, delay: int, random: float) -> None:
    found = retry_delay_ms(Backoff("fixed", delay, jitter), 1, lambda: random)
    assert int(delay * (1 - jitter)) - 1 <= found <= delay


def test_halves_round_up_as_in_javascript() -> None:
    assert retry_delay_ms(Backoff("exponential", 2.5), 1, half) == 3


def test_the_cap_holds() -> None:
    assert retry_delay_ms(Backoff("exponential", 5000), 10, half, max_delay_ms=60_000) == 60_000


def test_an_unknown_type_is_the_workers_business() -> None:
    with pytest.raises(errors.InvalidOptionError, match="custom"):
        retry_delay_ms(Backoff("custom", 5), 1, half)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (1000, Backoff("fixed", 1000)),
        ({"type": "exponential", "delay": 5, "jitter": 0.5}, Backoff("exponential", 5, 0.5)),
        ({"type": "custom"}, Backoff("custom", 0)),
    ],
)
def test_every_form_of_bullmq_is_read(value: Any, expected: Backoff | None) -> None:
    assert Backoff.parse(value) == expected


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (True, "opts.backoff"),
        (-1, "opts.backoff"),
        ({"type": "fixed", "delay": "5"}, "opts.backoff.delay"),
        ({"delay": 5}, "opts.backoff.type"),
        ({"type": "fixed", "jitter": 2}, "opts.backoff.jitter"),
        ({"type": "fixed", "dely": 2}, "opts.backoff.dely"),
    ],
)
def test_anything_else_is_refused_by_its_field(value: Any, field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as refusal:
        Backoff.parse(value)
    assert refusal.value.field == field
