"""How many workers a queue should have now. One pure function: the same input gives the same answer, always.

The wish is the work (waiting, prioritized, due and running jobs) divided by what one worker takes. From there: the
queue's limits (more workers could not use them), windows (up at once, down only after a while of lower wishes), the
running jobs, the cooldown before zero, the bounds.
Every step that changed the number is named in the decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from toril.jobs.signals import QueueSignals
from toril.scaling.policy import FleetState, RateLimit, ScalingMode, ScalingPolicy, Unknown


class Reason(StrEnum):
    """Why a decision is what it is, in one word; goes into conditions, metrics and the table of local mode."""

    BACKLOG = "Backlog"
    """The work asks for this number."""
    NO_WORK = "NoWork"
    """There is nothing to do, and the cooldown is over."""
    COOLDOWN = "Cooldown"
    """There is nothing to do, but there was a moment ago."""
    DUE_SOON = "DueSoon"
    """Nothing to do now, but a delayed job is due before a worker would be gone and back."""
    GLOBAL_CONCURRENCY = "GlobalConcurrency"
    """More could not run jobs: the whole queue may run only so many at a time."""
    RATE_LIMIT = "RateLimit"
    """More could not run jobs: only so many may start in the limit's time."""
    DOWN_WINDOW = "DownWindow"
    """Less would do, but not for long enough yet."""
    UP_WINDOW = "UpWindow"
    """More is wished, but not for long enough yet."""
    BUSY_WORKERS = "BusyWorkers"
    """Less would do, but more workers than that are running jobs."""
    MIN_REPLICAS = "MinReplicas"
    MAX_REPLICAS = "MaxReplicas"
    MANUAL = "Manual"
    """The number is the user's."""
    METRIC_UNAVAILABLE = "MetricUnavailable"
    """Redis cannot tell how much work there is: the number stays."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, and why."""

    replicas: int
    reason: Reason
    """The step that decided the number."""
    message: str
    """The same for people, with the figures."""
    wish: int | None = None
    """What the work alone would ask for; None = not known."""


@dataclass(frozen=True, slots=True)
class History:
    """What earlier decisions leave for the next one. Empty at the start and after every unknown: then nothing is
    scaled down until a full window has been seen."""

    since_ms: int | None = None
    """When the first of an unbroken series of readings came."""
    wishes: tuple[tuple[int, int], ...] = ()
    """(when, wish within the queue's limits), oldest first, as far back as the longer window reaches."""
    idle_since_ms: int | None = None
    """Since when there has been nothing to do; None = there is something."""


def decide(
    policy: ScalingPolicy, signal: QueueSignals | Unknown, history: History, state: FleetState, now_ms: int
) -> tuple[Decision, History]:
    """Decide, and return what the next decision has to know.

    Args:
        now_ms: a clock that never steps back, milliseconds; the same one for the whole history.
    """
    if policy.mode is ScalingMode.MANUAL:
        message = f"mode Manual: spec.replicas is {policy.manual_replicas}"
        return Decision(policy.manual_replicas, Reason.MANUAL, message), History()
    if isinstance(signal, Unknown):
        replicas = max(state.current, policy.min_replicas)
        message = f"{_workers(replicas)} kept: {signal.why}"
        return Decision(replicas, Reason.METRIC_UNAVAILABLE, message), History()
    work = signal.active if policy.is_suspended else signal.work
    wish = -(-work // policy.jobs_per_replica)
    formula = f"{_jobs(work)} / {policy.jobs_per_replica} per worker = {wish}"
    decision = Decision(wish, Reason.BACKLOG if wish else Reason.NO_WORK, formula, wish)
    for cap, reason, text in _caps(policy, signal):
        if decision.replicas > cap:
            decision = _changed(decision, cap, reason, f"{cap}{text}")
    history = _noted(policy, signal, history, decision.replicas, now_ms)
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
        # How long jobs take is not known. Within this window no more run than run now and may still start; in the
        # next one as many may start as the limit says.
        slots = max(limit.max, signal.active + max(0, limit.max - signal.limit_used))
        text = f" under the rate limit of {_jobs(limit.max)} in {limit.duration_ms / 1000:g} s"
        yield max(1, -(-slots // policy.jobs_per_replica)), Reason.RATE_LIMIT, text


def _noted(policy: ScalingPolicy, signal: QueueSignals, history: History, wish: int, now_ms: int) -> History:
    """The history with this reading."""
    reach_ms = now_ms - max(policy.up_window_ms, policy.down_window_ms)
    older = [entry for entry in history.wishes if entry[0] >= reach_ms]
    is_idle = wish == 0 and not _is_due_soon(policy, signal)
    return History(
        since_ms=now_ms if history.since_ms is None else history.since_ms,
        wishes=(*older, (now_ms, wish)),
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
    """Take the wish through the steps in time; the last one that changed the number gives the reason."""
    steady = max(min(_within(history, policy.up_window_ms, now_ms)), state.current)
    if decision.replicas > steady:
        window = f"for all of the last {policy.up_window_ms / 1000:g} s"
        decision = _changed(decision, steady, Reason.UP_WINDOW, f"{steady}, since more was not wished {window}")
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
    wished = max(_within(history, policy.down_window_ms, now_ms)) if is_window_whole else state.current
    if decision.replicas < (highest := min(wished, state.current)):
        text = f"{highest} until less has been wished for {policy.down_window_ms / 1000:g} s"
        decision = _changed(decision, highest, Reason.DOWN_WINDOW, text)
    if decision.replicas < (busy := min(state.busy, state.current)):
        text = f"{busy}, since so many workers are running jobs"
        decision = _changed(decision, busy, Reason.BUSY_WORKERS, text)
    return decision


def _changed(decision: Decision, replicas: int, reason: Reason, text: str) -> Decision:
    return Decision(replicas, reason, f"{decision.message}; {text}", decision.wish)


def _is_due_soon(policy: ScalingPolicy, signal: QueueSignals) -> bool:
    """Whether a delayed job is due within the cooldown: then a stop would only be followed by a start."""
    if signal.next_due_ms is None or signal.is_paused or policy.is_suspended:
        return False
    return signal.next_due_ms - signal.server_time_ms <= policy.cooldown_ms


def _within(history: History, window_ms: int, now_ms: int) -> list[int]:
    """The wishes of the last `window_ms`, the present one always among them."""
    return [wish for when, wish in history.wishes[:-1] if when > now_ms - window_ms] + [history.wishes[-1][1]]


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"
