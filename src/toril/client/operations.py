"""Operations of one queue on checked input: reading, changing and removing jobs, steering, limits, deduplication.

No method does I/O. A caller executes the returned operation over either kind of connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from toril import errors
from toril.client.options import Duration, milliseconds
from toril.engine import administration, flows, getters, limits, scripts
from toril.engine.flows import JobTree
from toril.engine.getters import ConnectedClient, JobLogs, QueueMetrics
from toril.engine.keys import QueueKeys
from toril.engine.limits import QueueLimits
from toril.engine.operations import Operation
from toril.engine.scripts import Layout
from toril.jobs import codec, deduplication
from toril.jobs.children import Children
from toril.jobs.job import JobRecord, JobState
from toril.jobs.options import MAX_PRIORITY

T = TypeVar("T")

MAX_LIMIT = 2**31
"""Largest value of a limit: jobs, or milliseconds."""

_EVENTS_OF_BULLMQ = frozenset(
    (
        "added", "waiting", "delayed", "waiting-children", "active", "completed", "failed", "retries-exhausted",
        "progress", "stalled", "removed", "duplicated", "deduplicated", "debounced", "cleaned", "paused", "resumed",
        "drained", "error",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `max` jobs are started in any window of `seconds`, which begins with its first job."""

    max: int
    seconds: float


class QueueOperations:
    """The operations of one queue.

    Each method raises InvalidOptionError or InvalidPayloadError for bad input, before anything is sent.
    """

    def __init__(self, keys: QueueKeys, layout: Layout) -> None:
        self._keys = keys
        self._layout: Layout = layout

    # ---- one job

    def state(self, job_id: str) -> Operation[JobState]:
        """Return the job's state; `unknown` when the queue has no such job."""
        state, _ = yield scripts.read_job(self._keys, job_id)
        found: JobState = state
        return found

    def job(self, job_id: str) -> Operation[JobRecord]:
        """Return the job as stored. Raises JobNotFoundError."""
        _, job = yield from self.state_and_job(job_id)
        return job

    def state_and_job(self, job_id: str) -> Operation[tuple[JobState, JobRecord]]:
        """Return state and job as of one moment. Raises JobNotFoundError."""
        state, job = yield from self.state_and_job_or_none(job_id)
        return state, self._existing(job, job_id)

    def state_and_job_or_none(self, job_id: str) -> Operation[tuple[JobState, JobRecord | None]]:
        """Return state and job as of one moment; None = the queue does not hold the job."""
        found: tuple[JobState, JobRecord | None] = yield scripts.read_job(self._keys, job_id)
        return found

    def promote(self, job_id: str) -> Operation[None]:
        return administration.promote(self._keys, job_id, layout=self._layout)

    def retry(self, job_id: str, state: object, reset_attempts: bool) -> Operation[None]:
        return administration.retry(
            self._keys,
            job_id,
            _finished_state(state),
            reset_attempts_made=reset_attempts,
            reset_attempts_started=reset_attempts,
            layout=self._layout,
        )

    def remove(self, job_id: str, with_children: bool) -> Operation[None]:
        return administration.remove(self._keys, job_id, with_children=with_children, layout=self._layout)

    def change_delay(self, job_id: str, delay: Duration) -> Operation[None]:
        return administration.change_delay(self._keys, job_id, milliseconds(delay, "delay"))

    def change_priority(self, job_id: str, priority: int, lifo: bool) -> Operation[None]:
        checked = _priority(priority, "priority")
        return administration.change_priority(self._keys, job_id, checked, lifo=lifo, layout=self._layout)

    def update_progress(self, job_id: str, value: Any) -> Operation[None]:
        return administration.update_progress(self._keys, job_id, codec.encode(value, "progress"))

    def update_data(self, job_id: str, data: Any) -> Operation[None]:
        return administration.update_data(self._keys, job_id, codec.encode(data))

    def add_log(self, job_id: str, row: object, keep: int | None) -> Operation[int]:
        return administration.add_log(self._keys, job_id, codec.log_row(row), keep)

    def logs(self, job_id: str, first: int, last: int, newest_first: bool) -> Operation[JobLogs]:
        return getters.logs(self._keys, job_id, first, last, newest_first=newest_first)

    def clear_logs(self, job_id: str, keep: int) -> Operation[None]:
        return administration.clear_logs(self._keys, job_id, keep)

    def leave_parent(self, job_id: str) -> Operation[bool]:
        return administration.leave_parent(self._keys, job_id, layout=self._layout)

    def remove_unprocessed_children(self, job_id: str) -> Operation[None]:
        return administration.remove_unprocessed_children(self._keys, job_id, layout=self._layout)

    def children(self, job_id: str) -> Operation[Children]:
        return flows.children(self._keys, job_id)

    def tree(self, job_id: str, depth: int, max_children: int) -> Operation[JobTree]:
        found = yield from flows.tree(self._keys, job_id, depth=depth, max_children=max_children)
        return self._existing(found, job_id)

    # ---- reading the queue

    def jobs(
        self, states: Iterable[JobState | str], first: int, last: int, newest_first: bool
    ) -> Operation[list[JobRecord]]:
        wanted = [_state(state) for state in states] or [state for state in JobState if state is not JobState.UNKNOWN]
        first = _whole_number(first, "first")
        last = _whole_number(last, "last", lowest=-1)
        return getters.jobs(self._keys, wanted, first, last, newest_first=newest_first)

    def counts(self) -> Operation[dict[str, int]]:
        return getters.counts(self._keys)

    def counts_by_priority(self, priorities: Iterable[int]) -> Operation[dict[int, int]]:
        return getters.counts_by_priority(self._keys, [_priority(each, "priorities") for each in priorities])

    def is_paused(self) -> Operation[bool]:
        return getters.is_paused(self._keys)

    def metrics(self, kind: object, first: int, last: int) -> Operation[QueueMetrics]:
        return getters.metrics(self._keys, _finished_state(kind), first, last)

    def workers(self) -> Operation[list[ConnectedClient]]:
        return getters.workers(self._keys)

    def event_readers(self) -> Operation[list[ConnectedClient]]:
        return getters.event_readers(self._keys)

    # ---- steering the queue

    def pause(self) -> Operation[bool]:
        return administration.pause(self._keys, layout=self._layout)

    def resume(self) -> Operation[bool]:
        return administration.resume(self._keys)

    def promote_all(self) -> Operation[int]:
        return administration.promote_all(self._keys, layout=self._layout)

    def retry_all(self, state: object, until: datetime | None) -> Operation[int]:
        if until is not None and until.tzinfo is None:
            raise errors.InvalidOptionError("until", "must be a datetime with a time zone")
        until_ms = None if until is None else int(until.timestamp() * 1000)
        return administration.retry_all(self._keys, _finished_state(state), until_ms=until_ms, layout=self._layout)

    def drain(self, delayed: bool) -> Operation[int]:
        return administration.drain(self._keys, delayed=delayed, layout=self._layout)

    def clean(self, state: JobState | str, older_than: Duration, limit: int) -> Operation[list[str]]:
        grace_ms, limit = milliseconds(older_than, "older_than"), _whole_number(limit, "limit")
        return administration.clean(self._keys, _state(state), grace_ms=grace_ms, limit=limit, layout=self._layout)

    def obliterate(self, force: bool) -> Operation[None]:
        return administration.obliterate(self._keys, force=force, layout=self._layout)

    def publish_event(self, name: object, fields: Mapping[Any, object]) -> Operation[str]:
        if not isinstance(name, str) or not name.isprintable() or name in {"", *_EVENTS_OF_BULLMQ}:
            raise errors.InvalidOptionError("name", "must be printable text, and none of BullMQ's own events")
        texts: dict[str, str] = {}
        for field, value in fields.items():
            is_fine = isinstance(field, str) and isinstance(value, str | int) and not isinstance(value, bool)
            if not is_fine or field == "event" or not field.isprintable():
                raise errors.InvalidOptionError(
                    f"fields.{field}", "must be text or a whole number, and not named event"
                )
            texts[field] = str(value).encode(errors="replace").decode()
        return administration.publish_event(self._keys, name, texts)

    # ---- limits and deduplication

    def set_global_concurrency(self, jobs: int) -> Operation[None]:
        return limits.write(self._keys, {"concurrency": _limit(jobs, "concurrency")}, layout=self._layout)

    def remove_global_concurrency(self) -> Operation[None]:
        return limits.write(self._keys, {"concurrency": None}, layout=self._layout)

    def global_concurrency(self) -> Operation[int | None]:
        """Return the limit; None = no limit. Raises InvalidOptionError when `meta` holds an invalid one."""
        found = yield from limits.read(self._keys)
        _refuse_invalid(found, "concurrency")
        return found.concurrency

    def set_global_rate_limit(self, maximum: int, duration: Duration) -> Operation[None]:
        duration_ms = milliseconds(duration, "duration")
        wanted: dict[str, int | None] = {"max": _limit(maximum, "max"), "duration": _limit(duration_ms, "duration")}
        return limits.write(self._keys, wanted, layout=self._layout)

    def remove_global_rate_limit(self) -> Operation[None]:
        return limits.write(self._keys, {"max": None, "duration": None}, layout=self._layout)

    def global_rate_limit(self) -> Operation[RateLimit | None]:
        """Return the limit; None = no limit. Raises InvalidOptionError when `meta` holds an invalid one."""
        found = yield from limits.read(self._keys)
        _refuse_invalid(found, "max", "duration")
        return None if found.rate is None else RateLimit(found.rate.max, found.rate.duration_ms / 1000)

    def rate_limit(self, duration: Duration) -> Operation[None]:
        return limits.hold_back(self._keys, _limit(milliseconds(duration, "duration"), "duration"))

    def remove_rate_limit_key(self) -> Operation[bool]:
        return limits.let_go(self._keys)

    def rate_limit_seconds(self, max_jobs: int | None) -> Operation[float]:
        left_ms = yield from limits.rate_limited_ms(self._keys, max_jobs)
        return left_ms / 1000

    def deduplication_job_id(self, deduplication_id: str) -> Operation[str | None]:
        checked = deduplication.checked_id(deduplication_id, "deduplication_id")
        return limits.deduplication_job_id(self._keys, checked)

    def remove_deduplication_key(self, deduplication_id: str) -> Operation[bool]:
        checked = deduplication.checked_id(deduplication_id, "deduplication_id")
        return limits.remove_deduplication_key(self._keys, checked)

    def _existing(self, found: T | None, job_id: str) -> T:
        if found is None:
            raise not_found(job_id, self._keys.queue)
        return found


def not_found(job_id: str, queue_name: str) -> errors.JobNotFoundError:
    """The error for a job that the queue does not hold."""
    return errors.JobNotFoundError(f"job {job_id} is not in queue {queue_name}: never added, or not kept")


# ---- checked input


def _state(state: object) -> JobState:
    words = [each.value for each in JobState if each is not JobState.UNKNOWN]
    if state not in words:
        raise errors.InvalidOptionError("state", f"must be one of {', '.join(words)}")
    return JobState(str(state))


def _finished_state(state: object) -> Literal["completed", "failed"]:
    if state == "completed":
        return "completed"
    if state == "failed":
        return "failed"
    raise errors.InvalidOptionError("state", "must be completed or failed")


def _priority(value: object, field: str) -> int:
    return _whole_number(value, field, highest=MAX_PRIORITY)


def _whole_number(value: object, field: str, *, lowest: int = 0, highest: int = 2**53) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise errors.InvalidOptionError(field, f"must be a whole number from {lowest} to {highest}")
    return value


def _limit(value: object, field: str) -> int:
    return _whole_number(value, field, lowest=1, highest=MAX_LIMIT)


def _refuse_invalid(found: QueueLimits, *fields: str) -> None:
    for field in fields:
        if field in found.invalid:
            raise errors.InvalidOptionError(
                f"meta.{field}", "what is stored is no number above 0: set it, or remove it"
            )
