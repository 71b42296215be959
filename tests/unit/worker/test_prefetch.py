"""How many jobs are taken before there are slots for them."""

from __future__ import annotations

import pytest

from toril.worker.prefetch import Prefetch


def after(*seconds: float, concurrency: int = 100) -> Prefetch:
    ahead = Prefetch(concurrency)
    for each in seconds:
        ahead.record(each)
    return ahead


@pytest.mark.parametrize(
    ("seconds", "allowance"),
    [(0.0, 0), (0.0001, 0), (0.002, 50), (0.005, 40), (0.02, 10), (0.06, 0), (60.0, 0)],
    ids=str,
)
def test_as_many_as_end_during_one_call(seconds: float, allowance: int) -> None:
    assert after(*[seconds] * 200).allowance == pytest.approx(allowance, abs=1)


def test_none_before_anything_is_known_and_for_a_single_slot() -> None:
    assert after().allowance == 0
    assert after(*[0.005] * 200, concurrency=1).allowance == 0


def test_one_long_run_among_short_ones_ends_it_for_a_while() -> None:
    ahead = after(*[0.005] * 200, 2.0)
    assert ahead.allowance == 0
    for _ in range(100):
        ahead.record(0.005)
    assert ahead.allowance > 30


def test_it_can_be_stopped() -> None:
    ahead = after(*[0.005] * 200)
    ahead.stop()
    assert ahead.allowance == 0
