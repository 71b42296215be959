"""The part of `Queue` that reads and changes a queue as a whole, besides adding jobs and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.options import Duration
    from toril.engine.getters import ConnectedClient, QueueMetrics
    from toril.jobs.job import JobRecord, JobState


class ControlMethods:
    """Methods of `Queue`."""

    client: QueueClient

    # ---- reading

    async def counts(self) -> dict[str, int]:
        """Jobs by state."""
        return await self.client.execute(self.client.operations.counts())

    async def jobs(
        self, *states: JobState | str, first: int = 0, last: int = -1, newest_first: bool = False
    ) -> list[JobRecord]:
        """Jobs of the given states (none given = of all), as they are stored: a page of each, one after the other.

        Args:
            states: `waiting`, `active`, `delayed`, `prioritized`, `waiting-children`, `completed`, `failed`.
            first, last: ranks within each state, both included; −1 = to the end. Rank 0 is what runs next, or what is
                oldest; with `newest_first` what came last.
        """
        return await self.client.execute(self.client.operations.jobs(states, first, last, newest_first))

    async def counts_by_priority(self, priorities: Iterable[int]) -> dict[int, int]:
        """Waiting jobs of each of these priorities; 0 = those without one."""
        return await self.client.execute(self.client.operations.counts_by_priority(priorities))

    async def is_paused(self) -> bool:
        """Whether workers take no jobs."""
        return await self.client.execute(self.client.operations.is_paused())

    async def metrics(self, kind: Literal["completed", "failed"], *, first: int = 0, last: int = -1) -> QueueMetrics:
        """How many jobs ended so in each minute, if workers count them. Minute 0 is the newest; −1 = to the oldest."""
        return await self.client.execute(self.client.operations.metrics(kind, first, last))

    async def workers(self) -> list[ConnectedClient]:
        """The workers that are connected, ours and BullMQ's; their number is the list's length."""
        return await self.client.execute(self.client.operations.workers())

    async def event_readers(self) -> list[ConnectedClient]:
        """Those who read this queue's events."""
        return await self.client.execute(self.client.operations.event_readers())

    # ---- changing

    async def pause(self) -> bool:
        """Let no worker take jobs; adding goes on. Returns whether the queue was running."""
        return await self.client.execute(self.client.operations.pause())

    async def resume(self) -> bool:
        """Undo `pause`. Returns whether the queue was paused."""
        return await self.client.execute(self.client.operations.resume())

    async def promote_all(self) -> int:
        """Let all delayed jobs run now; return how many. As in BullMQ, their priority does not count then."""
        return await self.client.execute(self.client.operations.promote_all())

    async def retry_all(
        self, state: Literal["completed", "failed"] = "failed", *, until: datetime | None = None
    ) -> int:
        """Let all jobs run again that failed (or completed) until then, oldest first; return how many.

        Attempts made so far still count, and as in BullMQ priorities do not.
        """
        return await self.client.execute(self.client.operations.retry_all(state, until))

    async def drain(self, *, delayed: bool = False) -> int:
        """Remove all jobs that wait, and with `delayed` those too; return how many.

        What is running or has ended stays, and so do the next runs of job schedulers. A parent in this queue that
        waited for removed jobs alone is removed too.
        """
        return await self.client.execute(self.client.operations.drain(delayed))

    async def clean(self, state: JobState | str, *, older_than: Duration = 0, limit: int = 0) -> list[str]:
        """Remove jobs of one state that are older than that, oldest first; return their ids.

        Jobs that a worker runs and the next runs of job schedulers stay.

        Args:
            older_than: seconds or `timedelta`; counted from a job's end, else from its start, else from its creation.
            limit: look at so many jobs at most; 0 = at all.
        """
        return await self.client.execute(self.client.operations.clean(state, older_than, limit))

    async def obliterate(self, *, force: bool = False) -> None:
        """Remove the queue with everything in it, so that no key is left. It is paused meanwhile.

        Args:
            force: also while jobs are running; what becomes of those is not recorded.

        Raises:
            JobStateError: jobs are running; nothing was changed.
        """
        await self.client.execute(self.client.operations.obliterate(force))

    async def publish_event(self, name: str, fields: Mapping[str, str | int] | None = None) -> str:
        """Add an event of your own to this queue's event stream; return its id.

        Args:
            name: none of BullMQ's own.
            fields: whatever belongs to it; `jobId` says which job it is about.
        """
        return await self.client.execute(self.client.operations.publish_event(name, fields or {}))
