"""No more workers than the queue's own concurrency and the rate limit can keep busy."""

from __future__ import annotations

import pytest

from toril.jobs.signals import QueueSignals
from toril.scaling.decide import Decision, History, Reason, decide
from toril.scaling.policy import FleetState, RateLimit, ScalingMode, ScalingPolicy


def see(policy: ScalingPolicy, signal: QueueSignals, *, current: int = 0) -> Decision:
    return decide(policy, signal, History(), FleetState(current), 1_000_000)[0]


FIVE_A_MINUTE = ScalingPolicy(jobs_per_replica=2, limiter=RateLimit(5, 60_000))


@pytest.mark.parametrize(
    ("signal", "replicas"),
    [
        (QueueSignals(waiting=40), 3),
        (QueueSignals(waiting=3), 2),
        (QueueSignals(waiting=35, active=5, limit_used=5), 3),
        (QueueSignals(waiting=37, active=1, limit_used=3), 3),
        # Jobs of an earlier window still run: those that may start now come on top.
        (QueueSignals(waiting=35, active=5, limit_used=0), 5),
        (QueueSignals(waiting=30, active=10, limit_used=5), 5),
        (QueueSignals(waiting=30, active=9, limit_used=3), 6),
        # Held back by hand for a while: as if the window were used up.
        (QueueSignals(waiting=40, limit_used=2**53 - 1), 3),
    ],
)
def test_the_rate_limit_bounds_the_workers(signal: QueueSignals, replicas: int) -> None:
    assert see(FIVE_A_MINUTE, signal).replicas == replicas


def test_a_limit_of_the_queue_goes_before_the_workers_own() -> None:
    limited = QueueSignals(waiting=40, limit_max=2, limit_duration_ms=1000)
    assert see(FIVE_A_MINUTE, limited).replicas == 1
    assert see(ScalingPolicy(), limited).replicas == 2
    decision = see(ScalingPolicy(), limited)
    assert decision == Decision(
        2, Reason.RATE_LIMIT, "40 jobs / 1 per worker = 40; 2 under the rate limit of 2 jobs in 1 s", 40
    )


def test_one_worker_at_least_under_the_smallest_limit() -> None:
    policy = ScalingPolicy(jobs_per_replica=50, limiter=RateLimit(1, 1000))
    assert see(policy, QueueSignals(waiting=400)).replicas == 1


@pytest.mark.parametrize(("at_a_time", "replicas"), [(1, 1), (4, 2), (5, 3), (1000, 10)])
def test_the_queues_concurrency_bounds_the_workers(at_a_time: int, replicas: int) -> None:
    """Whether the manifest says it, or another client of BullMQ has."""
    by_manifest = ScalingPolicy(jobs_per_replica=2, global_concurrency=at_a_time)
    assert see(by_manifest, QueueSignals(waiting=40)).replicas == replicas
    by_client = QueueSignals(waiting=40, global_concurrency=at_a_time)
    assert see(ScalingPolicy(jobs_per_replica=2), by_client).replicas == replicas


def test_the_manifests_number_holds_while_another_stands_in_redis() -> None:
    policy = ScalingPolicy(global_concurrency=3)
    decision = see(policy, QueueSignals(waiting=40, global_concurrency=9))
    assert decision.replicas == 3
    assert decision.reason is Reason.GLOBAL_CONCURRENCY
    assert decision.message == "40 jobs / 1 per worker = 40; 3, since 3 jobs may run at a time (globalConcurrency)"


def test_the_narrower_of_the_two_counts() -> None:
    policy = ScalingPolicy(global_concurrency=3, limiter=RateLimit(2, 1000))
    assert see(policy, QueueSignals(waiting=40)).reason is Reason.RATE_LIMIT
    policy = ScalingPolicy(global_concurrency=1, limiter=RateLimit(2, 1000))
    assert see(policy, QueueSignals(waiting=40)).reason is Reason.GLOBAL_CONCURRENCY


def test_what_the_user_says_of_workers_goes_on_top() -> None:
    assert see(ScalingPolicy(global_concurrency=1, min_replicas=4), QueueSignals(waiting=40)).replicas == 4
    manual = ScalingPolicy(mode=ScalingMode.MANUAL, manual_replicas=7, global_concurrency=1)
    assert see(manual, QueueSignals(waiting=40)).replicas == 7


def test_a_new_limit_lets_workers_go_after_the_window_only() -> None:
    policy = ScalingPolicy(global_concurrency=1)
    history = History()
    replicas = []
    for now_ms in (0, 10_000, 29_000, 30_000):
        decision, history = decide(policy, QueueSignals(waiting=40), history, FleetState(8), now_ms)
        replicas.append(decision.replicas)
    assert replicas == [8, 8, 8, 1]
