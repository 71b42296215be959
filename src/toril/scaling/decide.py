"""How many workers a queue should have now. One pure function: the same input gives the same answer, always.

The *recommendation* is the work (waiting, prioritized, due and active jobs) divided by one worker's concurrency, at
most what the queue's limits let run. The steps after that, in order, each of which may change the number:

1. `scaleUp.stabilizationWindowSeconds`: no more than what was recommended throughout the window.
2. The steps that keep a lower number from being taken at once: a delayed job that is due soon, `cooldownSeconds` before
   zero, `scaleDown.stabilizationWindowSeconds`, the workers that hold jobs.
3. `minReplicas` and `maxReplicas`.

The decision names the last step that changed the number, and its message all of them. The windows are those of the
HorizontalPodAutoscaler.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from toril.jobs.signals import QueueSignals
from toril.scaling.policy import FleetState, RateLimit, ScalingMode, ScalingPolicy, Unknown


class Reason(StrEnum):
    """The step that decided the number; stands in the status, in metrics and in local mode's table."""

    BACKLOG = "Backlog"
    """The work divided by the concurrency gives this number."""
    NO_WORK = "NoWork"
    """There is no work, and `cooldownSeconds` have passed."""
    COOLDOWN = "Cooldown"
    """There is no work, for less than `cooldownSeconds`: one worker stays."""
    DUE_SOON = "DueSoon"
    """There is no work, but a delayed job is due within `cooldownSeconds`: one worker stays."""
    GLOBAL_CONCURRENCY = "GlobalConcurrency"
    """`globalConcurrency` lets no more workers run jobs."""
    RATE_LIMIT = "RateLimit"
    """The rate limit lets no more workers run jobs."""
    DOWN_WINDOW = "DownWindow"
    """A lower number was not recommended throughout `scaleDown.stabilizationWindowSeconds`."""
    UP_WINDOW = "UpWindow"
    """A higher number was not recommended throughout `scaleUp.stabilizationWindowSeconds`."""
    BUSY_WORKERS = "BusyWorkers"
    """A lower number would do, but more workers hold jobs."""
    MIN_REPLICAS = "MinReplicas"
    """Raised to `minReplicas`."""
    MAX_REPLICAS = "MaxReplicas"
    """Limited to `maxReplicas`."""
    MANUAL = "Manual"
    """Mode `Manual`: the number is `spec.replicas`."""
    METRIC_UNAVAILABLE = "MetricUnavailable"
    """The queue could not be read: the number stays."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, and the reason."""

    replicas: int
    reason: Reason
    """The step that decided the number."""
    message: str
    """The steps for people, with their figures."""
    recommendation: int | None = None
    """The work divided by the concurrency, without limits; None: the work is unknown or the mode is `Manual`."""


@dataclass(frozen=True, slots=True)
class History:
    """What `decide` has to remember for its next call.

    Empty at the start and after every unknown reading. With less than a whole down window of readings, the number is
    never lowered.
    """

    since_ms: int | None = None
    """When the first reading after the latest unknown one came; None = there is none."""
    recommendations: tuple[tuple[int, int], ...] = ()
    """(when, recommendation within the queue's limits), oldest first, as far back as the longer window reaches."""
    idle_since_ms: int | None = None
    """Since when there has been no work; None = there is work."""


def decide(
    policy: ScalingPolicy, signal: QueueSignals | Unknown, history: History, state: FleetState, now_ms: int
) -> tuple[Decision, History]:
    """Decide, and return the history for the next call.

    Args:
        now_ms: a clock that never steps back, milliseconds; the same clock for all calls with one history.
    """
    if policy.mode is ScalingMode.MANUAL:
        message = f"mode Manual: spec.replicas is {policy.manual_replicas}"
        return Decision(policy.manual_replicas, Reason.MANUAL, message), History()
    if isinstance(signal, Unknown):
        replicas = max(state.current, policy.min_replicas)
        message = f"{_workers(replicas)} kept: {signal.why}"
        return Decision(replicas, Reason.METRIC_UNAVAILABLE, message), History()
    work = signal.active if policy.is_suspended else signal.work
    wanted = -(-work // policy.jobs_per_replica)
    formula = f"{_jobs(work)} / {policy.jobs_per_replica} per worker = {wanted}"
    decision = Decision(wanted, Reason.BACKLOG if wanted else Reason.NO_WORK, formula, wanted)
    for cap, reason, text in _caps(policy, signal):
        if decision.replicas > cap:
            decision = _changed(decision, cap, reason, f"{cap}{text}")
    history = _extended(policy, signal, history, decision.replicas, now_ms)
    return _decided(decision, policy, signal, history, state, now_ms), history


def _caps(policy: ScalingPolicy, signal: QueueSignals) -> Iterator[tuple[int, Reason, str]]:
    """How many workers the limits of the queue can keep busy, each with its reason."""
    at_a_time = policy.global_concurrency or signal.global_concurrency
    if at_a_time is not None:
        text = f", since {_jobs(at_a_time)} may run at a time (globalConcurrency)"
        yield -(-at_a_time // policy.jobs_per_replica), Reason.GLOBAL_CONCURRENCY, text
    limit = policy.limiter
    if signal.limit_max is not None and signal.limit_duration_ms is not None:
        limit = RateLimit(signal.limit_max, signal.limit_duration_ms)
    if limit is not None:
        # How long jobs take is not known. In the present window, the jobs that run now and those that may still start
        # can run; in the next window, `max` jobs may start.
        slots = max(limit.max, signal.active + max(0, limit.max - signal.limit_used))
        text = f" under the rate limit of {_jobs(limit.max)} in {limit.duration_ms / 1000:g} s"
        yield max(1, -(-slots // policy.jobs_per_replica)), Reason.RATE_LIMIT, text


def _extended(
    policy: ScalingPolicy, signal: QueueSignals, history: History, recommendation: int, now_ms: int
) -> History:
    """The history with this reading."""
    reach_ms = now_ms - max(policy.up_window_ms, policy.down_window_ms)
    older = [entry for entry in history.recommendations if entry[0] >= reach_ms]
    is_idle = recommendation == 0 and not _is_due_soon(policy, signal)
    return History(
        since_ms=now_ms if history.since_ms is None else history.since_ms,
        recommendations=(*older, (now_ms, recommendation)),
        idle_since_ms=(now_ms if history.idle_since_ms is None else history.idle_since_ms) if is_idle else None,
    )


def _decided(
    decision: Decision,
    policy: ScalingPolicy,
    signal: QueueSignals,
    history: History,
    state: FleetState,
    now_ms: int,
) -> Decision:
    """Take the recommendation through windows and bounds; the last step that changed the number gives the reason."""
    steady = max(min(_within(history, policy.up_window_ms, now_ms)), state.current)
    if decision.replicas > steady:
        window = f"for all of the last {policy.up_window_ms / 1000:g} s"
        decision = _changed(decision, steady, Reason.UP_WINDOW, f"{steady}, since more was not recommended {window}")
    if decision.replicas < state.current:
        decision = _kept_up(decision, policy, signal, history, state, now_ms)
    if decision.replicas < policy.min_replicas:
        text = f"raised to minReplicas {policy.min_replicas}"
        decision = _changed(decision, policy.min_replicas, Reason.MIN_REPLICAS, text)
    if decision.replicas > policy.max_replicas:
        text = f"limited to maxReplicas {policy.max_replicas}"
        decision = _changed(decision, policy.max_replicas, Reason.MAX_REPLICAS, text)
    return decision


def _kept_up(
    decision: Decision,
    policy: ScalingPolicy,
    signal: QueueSignals,
    history: History,
    state: FleetState,
    now_ms: int,
) -> Decision:
    """The steps that keep a lower number from being taken at once."""
    if decision.replicas == 0:
        if _is_due_soon(policy, signal):
            decision = _changed(decision, 1, Reason.DUE_SOON, "1 kept for a delayed job that is due soon")
        elif history.idle_since_ms is None or now_ms - history.idle_since_ms < policy.cooldown_ms:
            text = f"1 kept until {policy.cooldown_ms / 1000:g} s without work are over"
            decision = _changed(decision, 1, Reason.COOLDOWN, text)
    is_window_whole = history.since_ms is not None and now_ms - history.since_ms >= policy.down_window_ms
    recommended = max(_within(history, policy.down_window_ms, now_ms)) if is_window_whole else state.current
    if decision.replicas < (highest := min(recommended, state.current)):
        text = f"{highest} until less has been recommended for {policy.down_window_ms / 1000:g} s"
        decision = _changed(decision, highest, Reason.DOWN_WINDOW, text)
    if decision.replicas < (busy := min(state.busy, state.current)):
        text = f"{busy}, since so many workers are running jobs"
        decision = _changed(decision, busy, Reason.BUSY_WORKERS, text)
    return decision


def _changed(decision: Decision, replicas: int, reason: Reason, text: str) -> Decision:
    return Decision(replicas, reason, f"{decision.message}; {text}", decision.recommendation)


def _is_due_soon(policy: ScalingPolicy, signal: QueueSignals) -> bool:
    """Whether a delayed job is due within the cooldown: a worker that stops now would have to start again."""
    if signal.next_due_ms is None or signal.is_paused or policy.is_suspended:
        return False
    return signal.next_due_ms - signal.server_time_ms <= policy.cooldown_ms


def _within(history: History, window_ms: int, now_ms: int) -> list[int]:
    """The recommendations of the last `window_ms`; the present one is always among them."""
    *earlier, (_, present) = history.recommendations
    return [number for when, number in earlier if when > now_ms - window_ms] + [present]


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
