"""Operations that read a queue and its jobs and change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from toril import errors
from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation, execute
from toril.engine.redis.connection import AsyncConnection
from toril.jobs.job import JobRecord, JobState, whole_number
from toril.jobs.signals import QueueSignals

JOBS_PER_CALL = 500
QUEUES_PER_CALL = 100


@dataclass(frozen=True, slots=True)
class JobLogs:
    """A page of a job's log."""

    rows: list[str]
    count: int
    """Rows in all."""


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """Finished jobs by minute, as workers with metrics switched on count them."""

    count: int
    """All jobs counted so far."""
    per_minute: list[int]
    """The page asked for, newest minute first."""
    points: int
    """Minutes kept in all."""
    previous_ms: int | None
    """When the latest minute was closed, Unix milliseconds; None = no job has been counted."""
    previous_count: int
    """`count` at that moment."""


@dataclass(frozen=True, slots=True)
class ConnectedClient:
    """A connection of a worker, or of a reader of events, as Redis lists it."""

    name: str
    """The worker's name; empty when it has none, and for readers of events."""
    address: str
    connected_seconds: int
    idle_seconds: int
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Everything that `CLIENT LIST` reports."""


def jobs(
    keys: QueueKeys, states: Sequence[JobState], first: int = 0, last: int = -1, *, newest_first: bool = False
) -> Operation[list[JobRecord]]:
    """Read a page of each of the states, one after the other; a job that moved meanwhile comes once.

    Args:
        first, last: ranks within each state, both included; −1 = to the end. Rank 0 is what runs next, or what is
            oldest (`newest_first`: what came last).
    """
    found: dict[str, JobRecord] = {}
    for state in states:
        start = first
        while last < 0 or start <= last:
            end = start + JOBS_PER_CALL - 1 if last < 0 else min(last, start + JOBS_PER_CALL - 1)
            ids, page = yield scripts.read_jobs(keys, state, first=start, last=end, newest_first=newest_first)
            for job in page:
                found.setdefault(job.id, job)
            start = end + 1
            if ids < JOBS_PER_CALL:
                break
    return list(found.values())


def counts(keys: QueueKeys) -> Operation[dict[str, int]]:
    """Count jobs by state, under BullMQ's names. `waiting` holds also what BullMQ 5 parks while a queue is paused.

    Raises:
        WrongKeyTypeError: one of the queue's keys is not BullMQ's.
    """
    (found,) = yield scripts.read_signals([keys])
    if isinstance(found, errors.RedisError):
        raise found
    return {
        "waiting": found.waiting,
        "active": found.active,
        "delayed": found.delayed,
        "prioritized": found.prioritized,
        "waiting-children": found.waiting_children,
        "completed": found.completed,
        "failed": found.failed,
    }


def counts_by_priority(keys: QueueKeys, priorities: Sequence[int]) -> Operation[dict[int, int]]:
    """Count the waiting jobs of each priority; 0 = those without."""
    counts = yield scripts.count_priorities(keys, priorities)
    return dict(zip(priorities, counts, strict=True))


def logs(
    keys: QueueKeys, job_id: str, first: int = 0, last: int = -1, *, newest_first: bool = False
) -> Operation[JobLogs]:
    """Read rows `first` to `last` (both included; −1 = to the end) of a job's log. Redis: LLEN and LRANGE."""
    key = keys.logs(job_id)
    count: int = yield ("LLEN", key)
    if newest_first:
        rows = yield ("LRANGE", key, 0 if last < 0 else -last - 1, -first - 1)
        rows.reverse()
    else:
        rows = yield ("LRANGE", key, first, last)
    return JobLogs([row.decode(errors="replace") for row in rows], count)


def metrics(
    keys: QueueKeys, kind: Literal["completed", "failed"], first: int = 0, last: int = -1
) -> Operation[QueueMetrics]:
    """Read how many jobs ended in each minute; minute 0 is the newest. What is no number counts as 0.

    Redis: HMGET, LRANGE, LLEN.
    """
    key = f"{keys.base}metrics:{kind}"
    count, previous_ms, previous_count = yield ("HMGET", key, "count", "prevTS", "prevCount")
    data = yield ("LRANGE", key + ":data", first, last)
    points: int = yield ("LLEN", key + ":data")
    return QueueMetrics(
        count=whole_number(count) or 0,
        per_minute=[whole_number(point) or 0 for point in data],
        points=points,
        previous_ms=whole_number(previous_ms),
        previous_count=whole_number(previous_count) or 0,
    )


def is_paused(keys: QueueKeys) -> Operation[bool]:
    """Whether workers take no jobs of the queue."""
    return bool((yield ("HEXISTS", keys.meta, "paused")))


def workers(keys: QueueKeys) -> Operation[list[ConnectedClient]]:
    """Find the workers of the queue that are connected to this server, whoever made them. Redis: CLIENT LIST.

    BullMQ for Python names both connections of a worker, and after the queue as it is. Of those a worker is counted by
    the connection that waits for jobs, or has waited.
    """
    listed = yield ("CLIENT", "LIST")
    clients = _parse_clients(listed)
    found = [
        _client(fields, name) for fields in clients if (name := _name_after(fields, keys.client_name())) is not None
    ]
    of_python: dict[str, list[ConnectedClient]] = {}
    for fields in clients:
        if (name := _name_after(fields, keys.qualified_name)) is not None:
            of_python.setdefault(name, []).append(_client(fields, name))
    for connections in of_python.values():
        found += [each for each in connections if each.fields.get("cmd") == "bzpopmin"] or connections[:1]
    return found


def _name_after(fields: Mapping[str, str], queue: str) -> str | None:
    """A worker's name by that of its connection; empty = it has none, None = no worker of the queue."""
    if fields["name"] == queue:
        return ""
    return fields["name"].removeprefix(f"{queue}:w:") if fields["name"].startswith(f"{queue}:w:") else None


def event_readers(keys: QueueKeys) -> Operation[list[ConnectedClient]]:
    """Find those who read the queue's events, on this server. Redis: CLIENT LIST."""
    listed = yield ("CLIENT", "LIST")
    return [_client(fields, "") for fields in _parse_clients(listed) if fields["name"] == keys.client_name(":qe")]


def _parse_clients(listed: bytes) -> list[dict[str, str]]:
    parsed: list[dict[str, str]] = []
    for line in filter(None, listed.decode(errors="replace").splitlines()):
        fields = {"name": ""}
        for part in line.split(" "):
            name, _, value = part.partition("=")
            fields[name] = value
        parsed.append(fields)
    return parsed


def _client(fields: Mapping[str, str], name: str) -> ConnectedClient:
    return ConnectedClient(
        name=name,
        address=fields.get("addr", ""),
        connected_seconds=int(fields.get("age", 0)),
        idle_seconds=int(fields.get("idle", 0)),
        fields=fields,
    )


class Inspector:
    """Reads one queue over one connection."""

    def __init__(self, connection: AsyncConnection, keys: QueueKeys) -> None:
        self.connection = connection
        self.keys = keys

    async def signals(self) -> QueueSignals:
        """Read the queue's numbers. Raises WrongKeyTypeError when one of its keys is not BullMQ's."""
        (found,) = await read_signals(self.connection, [self.keys])
        if isinstance(found, errors.RedisError):
            raise found
        return found

    async def counts(self) -> dict[str, int]:
        """Jobs by state: see `counts`."""
        return await execute(self.connection, counts(self.keys))

    async def is_paused(self) -> bool:
        return bool(await self.connection.command("HEXISTS", self.keys.meta, "paused"))

    async def state(self, job_id: str) -> JobState:
        """Where the job is; `unknown` when it is nowhere."""
        state, _ = await self.state_and_job(job_id)
        return state

    async def job(self, job_id: str) -> JobRecord | None:
        """The job as stored, or None."""
        _, job = await self.state_and_job(job_id)
        return job

    async def state_and_job(self, job_id: str) -> tuple[JobState, JobRecord | None]:
        """Both, as of one moment."""
        return await self.connection.run(scripts.read_job(self.keys, job_id))

    async def jobs(
        self, state: JobState, first: int = 0, last: int = -1, *, newest_first: bool = False
    ) -> list[JobRecord]:
        """Jobs of one state: see `jobs`."""
        return await execute(self.connection, jobs(self.keys, [state], first, last, newest_first=newest_first))

    async def logs(self, job_id: str) -> list[str]:
        """The job's log rows, oldest first."""
        rows = await self.connection.command("LRANGE", self.keys.logs(job_id), 0, -1)
        return [row.decode(errors="replace") for row in rows]


async def read_signals(
    connection: AsyncConnection, queues: Sequence[QueueKeys], *, with_locks: bool = False
) -> list[QueueSignals | errors.RedisError]:
    """Read the numbers of many queues of one Redis, in calls of at most 100 queues.

    Returns:
        One entry a queue, in order: its numbers, or the error that concerns this queue alone.

    Raises:
        RedisError: nothing could be read.
    """
    found: list[QueueSignals | errors.RedisError] = []
    for first in range(0, len(queues), QUEUES_PER_CALL):
        part = queues[first : first + QUEUES_PER_CALL]
        batch = await connection.run(scripts.read_signals(part, with_locks=with_locks))
        found += batch
    return found
