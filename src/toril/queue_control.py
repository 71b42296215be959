"""What is asked of and done to a whole queue, besides adding jobs: the same for code with and without an event loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

from toril import errors
from toril.engine import administration, getters
from toril.engine.getters import ConnectedClient, QueueMetrics
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.scripts import Layout
from toril.enqueue_options import Duration, milliseconds
from toril.jobs.job import JobRecord, JobState
from toril.jobs.options import MAX_PRIORITY

R = TypeVar("R")

_EVENTS_OF_BULLMQ = frozenset(
    (
        "added", "waiting", "delayed", "waiting-children", "active", "completed", "failed", "retries-exhausted",
        "progress", "stalled", "removed", "duplicated", "deduplicated", "debounced", "cleaned", "paused", "resumed",
        "drained", "error",
    )
)  # fmt: skip


class QueueControl(ABC):
    """The asynchronous side; `Queue` is one."""

    keys: QueueKeys

    @property
    @abstractmethod
    def paused_layout(self) -> Layout:
        """Where jobs wait while the queue is paused."""

    @abstractmethod
    async def walk(self, work: Operation[R]) -> R:
        """Carry out steps on this event loop's connection. Raises RedisError, and what the steps raise."""

    # ---- looking

    async def jobs(
        self, *states: JobState | str, first: int = 0, last: int = -1, newest_first: bool = False
    ) -> list[JobRecord]:
        """Jobs of the given states (none given = of all), as they are stored: a page of each, one after the other.

        Args:
            states: `waiting`, `active`, `delayed`, `prioritized`, `waiting-children`, `completed`, `failed`.
            first, last: ranks within each state, both included; −1 = to the end. Rank 0 is what runs next, or what is
                oldest; with `newest_first` what came last.
        """
        return await self.walk(_jobs(self.keys, states, first, last, newest_first))

    async def counts_by_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """Waiting jobs of each of these priorities; 0 = those without one."""
        return await self.walk(
            getters.counts_by_priority(self.keys, [checked_priority(each, "priorities") for each in priorities])
        )

    async def is_paused(self) -> bool:
        """Whether workers take no jobs."""
        return await self.walk(getters.is_paused(self.keys))

    async def metrics(self, kind: Literal["completed", "failed"], *, first: int = 0, last: int = -1) -> QueueMetrics:
        """How many jobs ended so in each minute, if workers count them. Minute 0 is the newest; −1 = to the oldest."""
        return await self.walk(getters.metrics(self.keys, finished_state(kind), first, last))

    async def workers(self) -> list[ConnectedClient]:
        """The workers that are connected, ours and BullMQ's; their number is the list's length."""
        return await self.walk(getters.workers(self.keys))

    async def event_readers(self) -> list[ConnectedClient]:
        """Those who read this queue's events."""
        return await self.walk(getters.event_readers(self.keys))

    # ---- doing

    async def promote_all(self) -> int:
        """Let all delayed jobs run now; return how many. As in BullMQ, their priority does not count then."""
        return await self.walk(administration.promote_all(self.keys, layout=self.paused_layout))

    async def retry_all(
        self, state: Literal["completed", "failed"] = "failed", *, until: datetime | None = None
    ) -> int:
        """Let all jobs run again that failed (or completed) until then, oldest first; return how many.

        Attempts made so far still count, and as in BullMQ priorities do not.
        """
        return await self.walk(_retry_all(self.keys, state, until, self.paused_layout))

    async def drain(self, *, delayed: bool = False) -> int:
        """Remove all jobs that wait, and with `delayed` those too; return how many.

        What is running or has ended stays, and so do the next runs of job schedulers. A parent in this queue that
        waited for removed jobs alone is removed too.
        """
        return await self.walk(administration.drain(self.keys, delayed=delayed, layout=self.paused_layout))

    async def clean(self, state: JobState | str, *, older_than: Duration = 0, limit: int = 0) -> list[str]:
        """Remove jobs of one state that are older than that, oldest first; return their ids.

        Jobs that a worker runs and the next runs of job schedulers stay.

        Args:
            older_than: seconds or `timedelta`; counted from a job's end, else from its start, else from its creation.
            limit: look at so many jobs at most; 0 = at all.
        """
        return await self.walk(_clean(self.keys, state, older_than, limit, self.paused_layout))

    async def obliterate(self, *, force: bool = False) -> None:
        """Remove the queue with everything in it, so that no key is left. It is paused meanwhile.

        Args:
            force: also while jobs are running; what becomes of those is not recorded.

        Raises:
            JobStateError: jobs are running; nothing was changed.
        """
        await self.walk(administration.obliterate(self.keys, force=force, layout=self.paused_layout))

    async def publish_event(self, name: str, fields: Mapping[str, str | int] | None = None) -> str:
        """Tell an event of your own to everyone who reads this queue's events; return its id.

        Args:
            name: none of BullMQ's own.
            fields: whatever belongs to it; `jobId` says which job it is about.
        """
        return await self.walk(_publish(self.keys, name, fields or {}))


class SyncQueueControl(ABC):
    """The synchronous side; `Queue.sync` is one. Each method as that of `QueueControl`."""

    keys: QueueKeys

    @property
    @abstractmethod
    def paused_layout(self) -> Layout:
        """Where jobs wait while the queue is paused."""

    @abstractmethod
    def walk(self, work: Operation[R]) -> R:
        """As `QueueControl.walk`, on the synchronous connection."""

    def jobs(
        self, *states: JobState | str, first: int = 0, last: int = -1, newest_first: bool = False
    ) -> list[JobRecord]:
        """As `Queue.jobs`."""
        return self.walk(_jobs(self.keys, states, first, last, newest_first))

    def counts(self) -> dict[str, int]:
        """As `Queue.counts`."""
        return self.walk(getters.counts(self.keys))

    def pause(self) -> bool:
        """As `Queue.pause`."""
        return self.walk(administration.pause(self.keys, layout=self.paused_layout))

    def resume(self) -> bool:
        """As `Queue.resume`."""
        return self.walk(administration.resume(self.keys))

    def counts_by_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """As `Queue.counts_by_priority`."""
        return self.walk(
            getters.counts_by_priority(self.keys, [checked_priority(each, "priorities") for each in priorities])
        )

    def is_paused(self) -> bool:
        """As `Queue.is_paused`."""
        return self.walk(getters.is_paused(self.keys))

    def metrics(self, kind: Literal["completed", "failed"], *, first: int = 0, last: int = -1) -> QueueMetrics:
        """As `Queue.metrics`."""
        return self.walk(getters.metrics(self.keys, finished_state(kind), first, last))

    def workers(self) -> list[ConnectedClient]:
        """As `Queue.workers`."""
        return self.walk(getters.workers(self.keys))

    def event_readers(self) -> list[ConnectedClient]:
        """As `Queue.event_readers`."""
        return self.walk(getters.event_readers(self.keys))

    def promote_all(self) -> int:
        """As `Queue.promote_all`."""
        return self.walk(administration.promote_all(self.keys, layout=self.paused_layout))

    def retry_all(self, state: Literal["completed", "failed"] = "failed", *, until: datetime | None = None) -> int:
        """As `Queue.retry_all`."""
        return self.walk(_retry_all(self.keys, state, until, self.paused_layout))

    def drain(self, *, delayed: bool = False) -> int:
        """As `Queue.drain`."""
        return self.walk(administration.drain(self.keys, delayed=delayed, layout=self.paused_layout))

    def clean(self, state: JobState | str, *, older_than: Duration = 0, limit: int = 0) -> list[str]:
        """As `Queue.clean`."""
        return self.walk(_clean(self.keys, state, older_than, limit, self.paused_layout))

    def obliterate(self, *, force: bool = False) -> None:
        """As `Queue.obliterate`."""
        self.walk(administration.obliterate(self.keys, force=force, layout=self.paused_layout))

    def publish_event(self, name: str, fields: Mapping[str, str | int] | None = None) -> str:
        """As `Queue.publish_event`."""
        return self.walk(_publish(self.keys, name, fields or {}))


# ---- checked input


def _jobs(
    keys: QueueKeys, states: Iterable[JobState | str], first: int, last: int, newest_first: bool
) -> Operation[list[JobRecord]]:
    wanted = [_state(state) for state in states] or [state for state in JobState if state is not JobState.UNKNOWN]
    first = _whole_number(first, "first")
    last = _whole_number(last, "last", lowest=-1)
    return getters.jobs(keys, wanted, first, last, newest_first=newest_first)


def _clean(
    keys: QueueKeys, state: JobState | str, older_than: Duration, limit: int, layout: Layout
) -> Operation[list[str]]:
    grace_ms, limit = milliseconds(older_than, "older_than"), _whole_number(limit, "limit")
    return administration.clean(keys, _state(state), grace_ms=grace_ms, limit=limit, layout=layout)


def _retry_all(keys: QueueKeys, state: object, until: datetime | None, layout: Layout) -> Operation[int]:
    if until is not None and until.tzinfo is None:
        raise errors.InvalidOptionError("until", "must be a datetime with a time zone")
    until_ms = None if until is None else int(until.timestamp() * 1000)
    return administration.retry_all(keys, finished_state(state), until_ms=until_ms, layout=layout)


def _publish(keys: QueueKeys, name: object, fields: Mapping[Any, object]) -> Operation[str]:
    if not isinstance(name, str) or not name.isprintable() or name in {"", *_EVENTS_OF_BULLMQ}:
        raise errors.InvalidOptionError("name", "must be printable text, and none of BullMQ's own events")
    texts: dict[str, str] = {}
    for field, value in fields.items():
        is_fine = isinstance(field, str) and isinstance(value, str | int) and not isinstance(value, bool)
        if not is_fine or field == "event" or not field.isprintable():
            raise errors.InvalidOptionError(f"fields.{field}", "must be text or a whole number, and not named event")
        texts[field] = str(value).encode(errors="replace").decode()
    return administration.publish_event(keys, name, texts)


def _state(state: object) -> JobState:
    words = [each.value for each in JobState if each is not JobState.UNKNOWN]
    if state not in words:
        raise errors.InvalidOptionError("state", f"must be one of {', '.join(words)}")
    return JobState(str(state))


def finished_state(state: object) -> Literal["completed", "failed"]:
    """Return the word, or raise InvalidOptionError."""
    if state == "completed":
        return "completed"
    if state == "failed":
        return "failed"
    raise errors.InvalidOptionError("state", "must be completed or failed")


def checked_priority(value: object, field: str = "priority") -> int:
    """Return a priority as BullMQ takes it, or raise InvalidOptionError."""
    return _whole_number(value, field, highest=MAX_PRIORITY)


def _whole_number(value: object, field: str, *, lowest: int = 0, highest: int = 2**53) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise errors.InvalidOptionError(field, f"must be a whole number from {lowest} to {highest}")
    return value
