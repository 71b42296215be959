"""The part of `Queue` that adds jobs by name, one or many, and makes handles of known jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from toril.client import bulk
from toril.client.handle import JobHandle

if TYPE_CHECKING:
    from toril.client.bulk import BulkItem
    from toril.client.connection import QueueClient
    from toril.client.draft import Draft

R = TypeVar("R")


class AddMethods:
    """Methods of `Queue`."""

    client: QueueClient

    async def add(self, name: str, data: Any, opts: Mapping[str, Any] | None = None) -> JobHandle[Any]:
        """Add a job by name, as BullMQ's `queue.add` does.

        Args:
            data: any JSON value.
            opts: BullMQ's job options, in its units (milliseconds).

        Raises:
            InvalidOptionError, InvalidPayloadError: refused; nothing was added.
            RedisUnavailableError: Redis cannot be reached; nothing was added.
            UnknownOutcomeError: the connection broke; it may have been added. Use `jobId` to be sure.
        """
        (job_id,) = await self.client.add([self.client.new_job(name, data, opts)])
        return JobHandle(self.client, job_id)

    @overload
    async def add_bulk(self, items: Iterable[Draft[R]], /) -> list[JobHandle[R]]: ...
    @overload
    async def add_bulk(self, items: Iterable[BulkItem], /) -> list[JobHandle[Any]]: ...
    async def add_bulk(self, items: Iterable[BulkItem], /) -> list[JobHandle[Any]]:
        """Add many jobs of this queue, many in one call each: `add_bulk([send.draft(to) for to in addresses])`.

        Jobs without a task are written `(name, data)` or `(name, data, opts)`, with BullMQ's options in its units, or
        as BullMQ's `addBulk` takes them: `{"name": …, "data": …, "opts": …}`.

        The items of a list have all been checked before the first is added. Others are added as they come, while Redis
        works on those before, so that an iterator may have millions; when it fails in the middle, those stay.

        Raises as `add` does; `field` begins with the place of the bad item, `[3].opts.priority`. When it fails in the
        middle, the calls before are done.
        """
        return [JobHandle(self.client, job_id) for job_id in await self.client.add(bulk.new_jobs(self.client, items))]

    def handle(self, job_id: str) -> JobHandle[Any]:
        """A handle of a job whose id is known. Sends no request."""
        return JobHandle(self.client, job_id)
