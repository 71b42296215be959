"""Signals → decision: the table, the windows, and what must hold whatever comes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toril.jobs.signals import QueueSignals
from toril.scaling.decide import Decision, History, Reason, decide
from toril.scaling.policy import FleetState, ScalingMode, ScalingPolicy, Unknown

POLICY = ScalingPolicy(jobs_per_replica=5)


class Run:
    """A queue over time: each reading is followed at once, as by a fleet that obeys."""

    def __init__(self, policy: ScalingPolicy = POLICY, current: int = 0) -> None:
        self.policy = policy
        self.current = current
        self.history = History()
        self.now_ms = 1_000_000

    def see(self, signal: QueueSignals | Unknown, *, after_s: float = 0, busy: int = 0) -> Decision:
        self.now_ms += round(after_s * 1000)
        state = FleetState(self.current, busy)
        decision, self.history = decide(self.policy, signal, self.history, state, self.now_ms)
        self.current = decision.replicas
        return decision


@pytest.mark.requirement("Z-05", "Z-06")
@pytest.mark.parametrize(
    ("signals", "replicas"),
    [
        (QueueSignals(), 0),
        (QueueSignals(waiting=1), 1),
        (QueueSignals(waiting=5), 1),
        (QueueSignals(waiting=6), 2),
        (QueueSignals(prioritized=6), 2),
        (QueueSignals(waiting=3, prioritized=2, active=5, delayed=9, delayed_due=1), 3),
        (QueueSignals(delayed=100, next_due_ms=10**6, server_time_ms=0), 0),
        (QueueSignals(waiting_children=100), 0),
        (QueueSignals(completed=100, failed=100), 0),
        (QueueSignals(waiting=1000), 10),
        (QueueSignals(waiting=1000, is_paused=True), 0),
    ],
)
def test_from_zero_the_work_decides_at_once(signals: QueueSignals, replicas: int) -> None:
    assert Run().see(signals).replicas == replicas


def test_the_message_shows_the_figures_and_what_limited_them() -> None:
    decision = Run().see(QueueSignals(waiting=100))
    assert decision.reason is Reason.MAX_REPLICAS
    assert decision.message == "100 jobs / 5 per worker = 20; limited to maxReplicas 10"
    assert decision.recommendation == 20


def test_down_only_after_the_window_of_lower_recommendations() -> None:
    run = Run()
    assert run.see(QueueSignals(waiting=50)).replicas == 10
    assert run.see(QueueSignals(active=10), after_s=5).reason is Reason.DOWN_WINDOW
    assert run.see(QueueSignals(active=10), after_s=24).replicas == 10
    assert run.see(QueueSignals(active=10), after_s=1).replicas == 2


def test_the_highest_recommendation_of_the_window_counts() -> None:
    run = Run()
    run.see(QueueSignals(waiting=50))
    run.see(QueueSignals(waiting=25), after_s=10)
    assert run.see(QueueSignals(waiting=1), after_s=29).replicas == 5


def test_zero_comes_after_the_cooldown_and_not_before() -> None:
    run = Run()
    run.see(QueueSignals(waiting=1))
    run.see(QueueSignals(), after_s=1)
    held = run.see(QueueSignals(), after_s=59)
    assert (held.replicas, held.reason) == (1, Reason.COOLDOWN)
    ended = run.see(QueueSignals(), after_s=1)
    assert (ended.replicas, ended.reason) == (0, Reason.NO_WORK)


def test_work_in_between_starts_the_cooldown_anew() -> None:
    run = Run()
    run.see(QueueSignals(waiting=1))
    run.see(QueueSignals(), after_s=50)
    run.see(QueueSignals(active=1), after_s=5)
    assert run.see(QueueSignals(), after_s=58).replicas == 1


def test_a_running_job_is_never_scaled_to_zero() -> None:
    run = Run()
    run.see(QueueSignals(waiting=1))
    for _ in range(100):
        assert run.see(QueueSignals(active=1), after_s=60).replicas == 1


def test_workers_that_run_jobs_stay() -> None:
    run = Run(current=4)
    run.see(QueueSignals(active=4), busy=4)
    decision = run.see(QueueSignals(active=4), after_s=60, busy=4)
    assert (decision.replicas, decision.reason) == (4, Reason.BUSY_WORKERS)


def test_a_retry_that_is_due_soon_keeps_the_last_worker() -> None:
    run = Run()
    run.see(QueueSignals(waiting=1))
    soon = QueueSignals(delayed=1, next_due_ms=1_000_000, server_time_ms=960_000)
    late = replace(soon, next_due_ms=10_000_000)
    run.see(soon, after_s=1)
    assert run.see(soon, after_s=100).reason is Reason.DUE_SOON
    run.see(late, after_s=1)
    assert run.see(late, after_s=61).replicas == 0


@pytest.mark.parametrize("current", [0, 1, 7])
def test_unknown_holds_for_ever(current: int) -> None:
    run = Run(current=current)
    for _ in range(1000):
        decision = run.see(Unknown("Redis redis:6379/0: connection refused"), after_s=60)
        assert (decision.replicas, decision.reason, decision.recommendation) == (
            current,
            Reason.METRIC_UNAVAILABLE,
            None,
        )


def test_after_an_unknown_a_full_window_must_be_seen() -> None:
    run = Run()
    run.see(QueueSignals(waiting=50))
    run.see(QueueSignals(waiting=50), after_s=100)
    run.see(Unknown("away"), after_s=1)
    assert run.see(QueueSignals(), after_s=100).replicas == 10
    assert run.see(QueueSignals(), after_s=29).replicas == 10
    assert run.see(QueueSignals(), after_s=1).replicas == 1
    assert run.see(QueueSignals(), after_s=30).replicas == 0


def test_a_restart_scales_up_at_once_and_down_only_after_a_window() -> None:
    fresh = Run(current=6)
    assert fresh.see(QueueSignals()).replicas == 6
    assert Run(current=6).see(QueueSignals(waiting=50)).replicas == 10


def test_minimum_and_maximum_hold_in_every_case() -> None:
    policy = replace(POLICY, min_replicas=2, max_replicas=4)
    assert Run(policy).see(QueueSignals()).reason is Reason.MIN_REPLICAS
    assert Run(policy).see(Unknown("away")).replicas == 2
    assert Run(policy, current=9).see(QueueSignals(waiting=100)).replicas == 4


def test_up_window_waits_for_steady_recommendations() -> None:
    run = Run(replace(POLICY, up_window_ms=10_000), current=1)
    run.see(QueueSignals(waiting=5))
    assert run.see(QueueSignals(waiting=50), after_s=5).reason is Reason.UP_WINDOW
    assert run.see(QueueSignals(waiting=50), after_s=11).replicas == 10


def test_suspended_counts_running_jobs_only() -> None:
    run = Run(replace(POLICY, is_suspended=True))
    assert run.see(QueueSignals(waiting=100)).replicas == 0
    assert run.see(QueueSignals(waiting=100, active=6)).replicas == 2


def test_manual_mode_is_the_users_number() -> None:
    run = Run(ScalingPolicy(mode=ScalingMode.MANUAL, manual_replicas=3))
    assert run.see(QueueSignals(waiting=100)).replicas == 3
    assert run.see(Unknown("away")).replicas == 3


signals_or_unknown = st.one_of(
    st.builds(
        QueueSignals,
        waiting=st.integers(0, 500),
        prioritized=st.integers(0, 50),
        active=st.integers(0, 50),
        delayed_due=st.integers(0, 50),
        is_paused=st.booleans(),
    ),
    st.just(Unknown("away")),
)


@pytest.mark.requirement("T92")
@given(steps=st.lists(st.tuples(signals_or_unknown, st.integers(0, 120)), max_size=30), current=st.integers(0, 10))
def test_bounds_and_holding_whatever_comes(steps: list[tuple[QueueSignals | Unknown, int]], current: int) -> None:
    run = Run(current=current)
    for signal, seconds in steps:
        before = run.current
        decision = run.see(signal, after_s=seconds)
        assert 0 <= decision.replicas <= 10
        if isinstance(signal, Unknown):
            assert decision.replicas == before
        elif signal.active:
            assert decision.replicas >= 1


@pytest.mark.requirement("T92")
@given(work=st.integers(0, 200), more=st.integers(0, 200), current=st.integers(0, 10))
def test_more_work_never_means_fewer_workers(work: int, more: int, current: int) -> None:
    few = Run(current=current).see(QueueSignals(waiting=work))
    many = Run(current=current).see(QueueSignals(waiting=work + more))
    assert many.replicas >= few.replicas


@pytest.mark.requirement("T92")
@given(work=st.integers(0, 200), current=st.integers(0, 10))
def test_constant_input_settles_and_stays(work: int, current: int) -> None:
    run = Run(current=current)
    seen = [run.see(QueueSignals(waiting=work), after_s=5).replicas for _ in range(40)]
    assert len(set(seen[20:])) == 1
    changes = sum(one != other for one, other in itertools.pairwise(seen))
    assert changes <= 2
