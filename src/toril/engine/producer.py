"""Adds jobs to a queue, and pauses and resumes it."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from toril import clock, errors
from toril.engine import operations, scripts
from toril.engine.keys import QueueKeys
from toril.engine.queue_defaults import KnownDefaults
from toril.engine.redis import key_types
from toril.engine.redis.connection import AsyncConnection, Call
from toril.engine.redis.sync_connection import SyncConnection
from toril.jobs.job import NewJob

JOBS_PER_CALL = 100
"""One call holds Redis for a millisecond. More jobs go in several; while Redis works on one, the next is made."""
FIRST_CALL = 20
"""The first of several calls is small, so that Redis does not wait long for it; each has twice as many as the last."""
CALLS_AT_ONCE = 8
"""Calls that are sent before the first is answered: enough to keep Redis busy, few enough to bound the memory."""
BYTES_PER_CALL = 4 * 1024 * 1024
RETRY_PAUSES_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""Pauses before a repeated add of jobs that have ids."""

_Started = tuple[Call[list[str]], Sequence[NewJob], asyncio.Future[Any] | errors.RedisError]


class Producer:
    """Adds to one queue over one connection."""

    def __init__(
        self,
        connection: AsyncConnection,
        keys: QueueKeys,
        *,
        layout: scripts.Layout = "6",
        defaults: KnownDefaults | None = None,
    ) -> None:
        """Args: defaults: of the queue, for all jobs; None = the jobs have them already."""
        self.connection = connection
        self.keys = keys
        self.layout: scripts.Layout = layout
        self._defaults = defaults
        self._refreshing = asyncio.Lock()

    async def add(self, jobs: Iterable[NewJob]) -> list[str]:
        """Add jobs and return their ids, in order. An id that is there already is returned and nothing is changed.

        Jobs that all have an id and no parent are added again when the connection fails; the id keeps them single.

        Raises:
            InvalidPayloadError: data is larger than the queue's defaults allow; of a list, none was added.
            RedisUnavailableError: one call was not carried out and added nothing. Of more than `FIRST_CALL` jobs, those
                of other calls may be there.
            UnknownOutcomeError: jobs without an id, or with a parent, may have been added.
            WrongKeyTypeError: a key of the queue is not BullMQ's; says which. Nothing was written.
        """
        if self._defaults is not None:
            if not self._defaults.is_fresh:
                await self._refresh(self._defaults, jobs)
            jobs = self._defaults.current.apply_to_all(jobs)
        if isinstance(jobs, list) and len(jobs) == 1:
            # The usual case, without what several calls under way need.
            single = scripts.add_jobs(self.keys, jobs, now_ms=clock.now_ms(), layout=self.layout)
            return await self._end(single, jobs, await self._start(single))
        ids: list[str] = []
        started: collections.deque[_Started] = collections.deque()
        try:
            for part in parts_of(jobs, FIRST_CALL):
                call = scripts.add_jobs(self.keys, part, now_ms=clock.now_ms(), layout=self.layout)
                # A call that is refused for its unknown script is made again behind those that are under way.
                while len(started) >= (CALLS_AT_ONCE if self.connection.knows(call) else 1):
                    ids += await self._end(*started.popleft())
                started.append((call, part, await self._start(call)))
            while started:
                ids += await self._end(*started.popleft())
        finally:
            for _, _, rest in started:
                # Another call has failed; what became of this one is unknown.
                if not isinstance(rest, BaseException):
                    rest.add_done_callback(lambda done: done.cancelled() or done.exception())
        return ids

    async def pause(self) -> bool:
        """Pause the queue; return whether it was running."""
        return await self.connection.run(scripts.pause(self.keys, layout=self.layout))

    async def resume(self) -> bool:
        """Resume the queue; return whether it was paused."""
        return await self.connection.run(scripts.resume(self.keys))

    async def _refresh(self, defaults: KnownDefaults, jobs: Iterable[NewJob]) -> None:
        """Read the defaults, once for all who wait for them; anew where the jobs would be added anew."""
        pauses = repeat_pauses(jobs) if isinstance(jobs, Sequence) else ()
        async with self._refreshing:
            for pause in pauses:
                try:
                    await operations.execute(self.connection, defaults.refresh())
                    return
                except errors.RedisUnavailableError as problem:
                    if not is_cut(problem):
                        raise
                await asyncio.sleep(pause)
            await operations.execute(self.connection, defaults.refresh())

    async def _start(self, call: Call[list[str]]) -> asyncio.Future[Any] | errors.RedisError:
        try:
            return await self.connection.start(call)
        except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
            return problem

    async def _end(
        self, call: Call[list[str]], jobs: Sequence[NewJob], started: asyncio.Future[Any] | errors.RedisError
    ) -> list[str]:
        """The ids of one call; when the connection fails, it is made again if `repeat_pauses` allow."""
        pauses = repeat_pauses(jobs)
        while True:
            try:
                if isinstance(started, errors.RedisError):
                    raise started
                return await self.connection.result(call, started)
            except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
                pause = next(pauses, None)
                if pause is None or not is_cut(problem):
                    raise
            except errors.WrongKeyTypeError as problem:
                named = key_types.name_wrong_key(self.keys, problem)
                raise await operations.execute(self.connection, named) from None
            await asyncio.sleep(pause)
            started = await self._start(call)


class SyncProducer:
    """Adds to one queue over one synchronous connection."""

    def __init__(
        self,
        connection: SyncConnection,
        keys: QueueKeys,
        *,
        layout: scripts.Layout = "6",
        defaults: KnownDefaults | None = None,
    ) -> None:
        """As `Producer`."""
        self.connection = connection
        self.keys = keys
        self.layout: scripts.Layout = layout
        self._defaults = defaults

    def add(self, jobs: Iterable[NewJob]) -> list[str]:
        """Add jobs and return their ids. As `Producer.add`."""
        if self._defaults is not None:
            if not self._defaults.is_fresh:
                self._refresh(self._defaults, jobs)
            jobs = self._defaults.current.apply_to_all(jobs)
        ids: list[str] = []
        for part in parts_of(jobs):
            try:
                ids += self._add_part(part)
            except errors.WrongKeyTypeError as problem:
                named = key_types.name_wrong_key(self.keys, problem)
                raise operations.execute_sync(self.connection, named) from None
        return ids

    def _refresh(self, defaults: KnownDefaults, jobs: Iterable[NewJob]) -> None:
        """As `Producer` does; threads that come at the same time may each read."""
        for pause in repeat_pauses(jobs) if isinstance(jobs, Sequence) else ():
            try:
                operations.execute_sync(self.connection, defaults.refresh())
                return
            except errors.RedisUnavailableError as problem:
                if not is_cut(problem):
                    raise
            time.sleep(pause)
        operations.execute_sync(self.connection, defaults.refresh())

    def _add_part(self, jobs: Sequence[NewJob]) -> list[str]:
        call = scripts.add_jobs(self.keys, jobs, now_ms=clock.now_ms(), layout=self.layout)
        for pause in repeat_pauses(jobs):
            try:
                return self.connection.run(call)
            except (errors.RedisUnavailableError, errors.UnknownOutcomeError) as problem:
                if not is_cut(problem):
                    raise
                time.sleep(pause)
        return self.connection.run(call)


def repeat_pauses(jobs: Sequence[NewJob]) -> Iterator[float]:
    """Pauses before repetitions: none unless every job has an id, and no parent. Looks at the jobs when it is asked.

    A child may have ended by the time of a repetition, which would have its parent wait for it once more.
    """
    if all(job.options.job_id and job.options.parent is None for job in jobs):
        yield from RETRY_PAUSES_SECONDS


def is_cut(problem: errors.RedisError) -> bool:
    """Whether the connection failed, as against a server that answered and refused."""
    return problem.reason in (errors.RedisReason.CONNECTION_REFUSED, errors.RedisReason.TIMEOUT)


def parts_of(jobs: Iterable[NewJob], first: int = JOBS_PER_CALL) -> Iterator[list[NewJob]]:
    """Cut into calls of bounded number and size. `first`: jobs of the first; each has twice as many as the last."""
    rest, count = iter(jobs), first
    while part := list(islice(rest, count)):
        count = min(count * 2, JOBS_PER_CALL)
        size = 0
        current: list[NewJob] = []
        for job in part:
            if current and size + len(job.data_json) > BYTES_PER_CALL:
                yield current
                size, current = 0, []
            current.append(job)
            size += len(job.data_json)
        yield current
