"""What a caller may say about a job in Python's words and units (seconds), and its translation to BullMQ's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict, get_args

from toril import errors
from toril.jobs import hints
from toril.jobs.job import JobRecord
from toril.jobs.options import JobOptions
from toril.jobs.parents import FAILURE_POLICIES

Duration = float | timedelta
"""A length of time: seconds, or a `timedelta`."""
MAX_SECONDS = 9e12
"""JavaScript counts milliseconds exactly so far; Redis fails in the middle of a script that gets much more."""

BackoffStrategy = Callable[[int, BaseException, JobRecord], Duration | None]
"""How long a job waits: attempts made so far (1 = the first has failed), the error, the job. None or −1 = give up."""

OnFailure = Literal["fail_parent", "continue_parent", "ignore_dependency", "remove_dependency"]
"""`fail_parent`: the parent fails too, without being run. `continue_parent`: it runs at once, although other children
have not ended. `ignore_dependency`: it runs when the others have ended. With both it finds the reason in
`Children.ignored`. `remove_dependency`: it runs when the others have ended, and learns nothing."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed job waits before its next attempt. Made by `exponential()` and `fixed()`."""

    type: str
    seconds: float
    jitter: float = 0.0
    max_seconds: float | None = None


def exponential(delay: Duration, *, jitter: float = 0.0, max: Duration | None = None) -> Backoff:  # noqa: A002
    """Wait longer after every attempt: `exponential(5)` waits 5 s, 10 s, 20 s, 40 s …

    Args:
        delay: the first wait.
        jitter: 0 to 1; 0.2 makes every wait a random length between 80 % and 100 % of the above.
        max: no wait is longer than this.
    """
    return Backoff("exponential", _seconds(delay, "delay"), jitter, None if max is None else _seconds(max, "max"))


def fixed(delay: Duration, *, jitter: float = 0.0) -> Backoff:
    """Wait the same time after every attempt. `jitter` as in `exponential`."""
    return Backoff("fixed", _seconds(delay, "delay"), jitter)


@dataclass(frozen=True, slots=True)
class Keep:
    """Which finished jobs stay; the stricter of both limits. Made by `keep()`."""

    count: int | None = None
    age_seconds: float | None = None


def keep(count: int | None = None, *, age: Duration | None = None) -> Keep:
    """Keep the newest `count` finished jobs, and none that finished longer than `age` ago."""
    return Keep(count, None if age is None else _seconds(age, "age"))


@dataclass(frozen=True, slots=True)
class Deduplication:
    """One job at a time for an id: while it has a job, others are not added, and the caller gets that job's id.

    Without `ttl` the id is free again when its job has ended, with it when its time is over.
    """

    id: str
    """What the jobs have in common."""
    ttl: Duration | None = None
    """How long the id stays taken, whatever becomes of its job."""
    extend: bool = False
    """Each refused job begins `ttl` anew."""
    replace: bool = False
    """A job that is still delayed gives way to the new one. With `delay`: only the last of a burst runs."""
    keep_last_if_active: bool = False
    """The last job that came while the id's job was running is added when that has ended. `ttl` does not count then."""
    reschedule: bool = False
    """A job that is still delayed takes over the delay of the refused one. BullMQ knows it from 6.7 on."""


class EnqueueOptions(TypedDict, total=False):
    """What may be said about one job, about all jobs of a task, or about all jobs of a queue."""

    delay: Duration
    """Run no sooner than so long after adding."""
    run_at: datetime
    """Run no sooner than this moment (with a time zone). Not together with `delay`."""
    priority: int
    """1 (soonest) to 2097151; jobs without one (0) run before all that have one."""
    lifo: bool
    """Run before the jobs that wait already."""
    attempts: int
    """How often the job may be tried in all. Default 1."""
    backoff: Backoff | Duration
    """Wait between attempts: `exponential()`, `fixed()`, or a fixed length. Default: none."""
    job_id: str
    """Your own id: a job whose id is there already is not added again."""
    deduplication: str | Deduplication
    """Add no second job of the same id while the first has not ended, or as `Deduplication()` says."""
    keep_completed: bool | int | Keep
    """True: all (the default), False: none, a number: the newest so many, or `keep()`."""
    keep_failed: bool | int | Keep
    """As `keep_completed`, for jobs that failed for good."""
    telemetry: Mapping[str, Any]
    """Trace context, as BullMQ has it: `{"metadata": text, "omitContext": bool}`. Children that the running job adds
    take the text over, unless they have one of their own or omit it."""
    on_failure: OnFailure
    """For a child: what its final failure does to its parent. Default: the parent waits on."""


class TaskOptions(EnqueueOptions, total=False):
    """Options of `@queue.task(…)`: those of its jobs, and how the function is run."""

    name: str
    """Name of its jobs in Redis. Default: the function's name with dashes for underscores."""
    strict: bool
    """Fail jobs whose data has keys that the function has no parameter for. Default False: such keys are left out, so
    that producers may add a field before all workers know it."""
    inline: bool
    """Run a plain `def` function on the event loop instead of in a thread: faster for functions that wait for nothing
    (no files, no network, no sleeping), and harmful for all others, since nothing else runs meanwhile. Default False.
    """


ENQUEUE_OPTIONS = frozenset(EnqueueOptions.__annotations__)


def to_bullmq(options: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """Translate to BullMQ's option names and units (milliseconds; `age` in seconds).

    Raises:
        InvalidOptionError: an unknown name, or a value of the wrong kind. Ranges are checked by `JobOptions`.
    """
    if unknown := options.keys() - ENQUEUE_OPTIONS:
        name, known = min(map(str, unknown)), ", ".join(sorted(ENQUEUE_OPTIONS))
        raise errors.InvalidOptionError(name, hints.of_python(name) or f"is unknown; known options are {known}")
    wire: dict[str, Any] = {
        name: options[name] for name in ("priority", "lifo", "attempts", "telemetry") if options.get(name) is not None
    }
    if (job_id := options.get("job_id")) is not None:
        wire["jobId"] = job_id
    if (delay_ms := _delay_ms(options, now_ms)) is not None:
        wire["delay"] = delay_ms
    if (backoff := options.get("backoff")) is not None:
        wire |= _backoff(backoff)
    if (deduplication := options.get("deduplication")) is not None:
        wire["deduplication"] = _deduplication(deduplication)
    if (on_failure := options.get("on_failure")) is not None:
        wire |= _on_failure(on_failure)
    for name, bullmq_name in (("keep_completed", "removeOnComplete"), ("keep_failed", "removeOnFail")):
        if (kept := options.get(name)) is not None:
            wire[bullmq_name] = _retention(kept, name)
    return wire


def checked(defaults: Mapping[str, Any], options: Mapping[str, Any], now_ms: int) -> JobOptions:
    """Options of one job: `options` over `defaults`, which are in BullMQ's words. Raises InvalidOptionError."""
    return JobOptions.from_bullmq({**defaults, **to_bullmq(options, now_ms)})


def _delay_ms(options: Mapping[str, Any], now_ms: int) -> int | None:
    delay, run_at = options.get("delay"), options.get("run_at")
    if run_at is None:
        return None if delay is None else _milliseconds(_seconds(delay, "delay"))
    if delay is not None:
        raise errors.InvalidOptionError("run_at", "give either `delay` or `run_at`")
    if not isinstance(run_at, datetime) or run_at.tzinfo is None:
        raise errors.InvalidOptionError("run_at", "must be a datetime with a time zone")
    return max(0, _milliseconds(run_at.timestamp()) - now_ms)


def _backoff(backoff: Any) -> dict[str, Any]:
    if isinstance(backoff, Mapping):
        raise errors.InvalidOptionError(
            "backoff", "is written exponential(seconds) or fixed(seconds) here, or as seconds"
        )
    if not isinstance(backoff, Backoff):
        backoff = Backoff("fixed", _seconds(backoff, "backoff"))
    wire: dict[str, Any] = {"type": backoff.type, "delay": _milliseconds(backoff.seconds)}
    if backoff.jitter:
        wire["jitter"] = backoff.jitter
    longest = None if backoff.max_seconds is None else _milliseconds(backoff.max_seconds)
    # None takes away the limit of a default that this backoff replaces.
    return {"backoff": wire, "torilMaxDelay": longest}


def _deduplication(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        return {"id": given}
    if not isinstance(given, Deduplication):
        raise errors.InvalidOptionError("deduplication", "must be text, or Deduplication(…)")
    wire: dict[str, Any] = {"id": given.id}
    if given.ttl is not None:
        wire["ttl"] = milliseconds(given.ttl, "deduplication.ttl")
    flags = {"keep_last_if_active": "keepLastIfActive"}
    for name in ("extend", "replace", "keep_last_if_active", "reschedule"):
        if getattr(given, name):
            wire[flags.get(name, name)] = True
    return wire


def _on_failure(chosen: Any) -> dict[str, Any]:
    words = get_args(OnFailure)
    if chosen not in words:
        raise errors.InvalidOptionError("on_failure", f"must be one of {', '.join(words)}")
    # The others are taken away: a default may have set one.
    return {name: True if word == chosen else None for word, name in zip(words, FAILURE_POLICIES, strict=True)}


def _retention(kept: Any, name: str) -> Any:
    if isinstance(kept, bool):
        return not kept
    if isinstance(kept, Keep):
        return {key: value for key, value in (("count", kept.count), ("age", kept.age_seconds)) if value is not None}
    if isinstance(kept, int) and kept >= 0:
        return kept
    raise errors.InvalidOptionError(name, "must be True, False, a number of jobs, or keep(count, age=seconds)")


def _seconds(value: Any, field: str) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise errors.InvalidOptionError(field, f"must be seconds (0 to {MAX_SECONDS:g}) or a timedelta")
    seconds: float = value
    return seconds


def milliseconds(length: Any, field: str) -> int:
    """A length of time as BullMQ counts it. Raises InvalidOptionError when it is none."""
    return _milliseconds(_seconds(length, field))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
