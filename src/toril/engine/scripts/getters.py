"""Scripts that only read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toril import errors
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call, Part
from toril.engine.scripts.shared import positive, texts
from toril.jobs import codec
from toril.jobs.children import Children
from toril.jobs.job import JobRecord, JobState
from toril.jobs.signals import QueueSignals


def read_signals(
    queues: Sequence[QueueKeys], *, with_locks: bool = False
) -> Call[list[QueueSignals | errors.RedisError]]:
    """Read the numbers of queues; one with a key of a wrong type has a `WrongKeyTypeError` in its place."""
    names: list[str] = []
    for keys in queues:
        names += [
            keys.wait, keys.paused, keys.active, keys.prioritized, keys.delayed, keys.waiting_children, keys.completed,
            keys.failed, keys.meta, keys.base,
        ]  # fmt: skip

    def parse(reply: Any) -> list[QueueSignals | errors.RedisError]:
        return [_signals(entry, reply[0], keys) for entry, keys in zip(reply[1:], queues, strict=True)]

    return Call("read_signals", names, ["1" if with_locks else "0"], parse)


def read_job(keys: QueueKeys, job_id: str) -> Call[tuple[JobState, JobRecord | None]]:
    """Read a job and where it is."""
    names = [
        keys.completed, keys.failed, keys.delayed, keys.prioritized, keys.active, keys.wait, keys.paused,
        keys.waiting_children, keys.job(job_id),
    ]  # fmt: skip

    def parse(reply: Any) -> tuple[JobState, JobRecord | None]:
        job = JobRecord.from_reply(job_id.encode(errors="surrogateescape"), reply[1]) if reply[1] else None
        return JobState(reply[0].decode()), job

    return Call("read_job", names, [job_id], parse)


def read_jobs(
    keys: QueueKeys, state: JobState, *, first: int, last: int, newest_first: bool = False
) -> Call[tuple[int, list[JobRecord]]]:
    """Read the jobs of rank `first` to `last` (−1 = to the end) of one state; rank 0 is what runs next or is oldest.

    Answers how many ids there were, and the jobs that exist.
    """

    def parse(reply: Any) -> tuple[int, list[JobRecord]]:
        return reply[0], [JobRecord.from_reply(job_id, fields) for job_id, fields in reply[1:]]

    args: list[Part] = [keys.base, state.value, first, last, "last" if newest_first else "first"]
    return Call("read_jobs", [keys.meta], args, parse)


def count_priorities(keys: QueueKeys, priorities: Sequence[int]) -> Call[list[int]]:
    """Count the waiting jobs of each priority (0 = none), in order."""
    return Call("count_priorities", [keys.wait, keys.paused, keys.prioritized], priorities, list)


def read_children(keys: QueueKeys, job_id: str) -> Call[Children]:
    """Read what became of a job's children."""
    job = keys.job(job_id)

    def parse(reply: Any) -> Children:
        values, ignored = _pairs(reply[0]), _pairs(reply[1])
        return Children(
            values={name: codec.decode(value, "return value") for name, value in values.items()},
            ignored={name: reason.decode(errors="replace") for name, reason in ignored.items()},
            failed=texts(reply[2]),
            pending=texts(reply[3]),
        )

    names = [f"{job}:{part}" for part in ("processed", "failed", "unsuccessful", "dependencies")]
    return Call("read_children", names, [], parse)


def _pairs(flat: Sequence[bytes]) -> dict[str, bytes]:
    return dict(zip(texts(flat[::2]), flat[1::2], strict=True))


def _signals(entry: Any, now_ms: int, keys: QueueKeys) -> QueueSignals | errors.RedisError:
    if isinstance(entry, bytes):
        return errors.WrongKeyTypeError(f"a key of queue {keys.queue!r} has a type that is not BullMQ's")
    locks = entry[11]
    return QueueSignals(
        waiting=entry[0],
        prioritized=entry[1],
        active=entry[2],
        delayed=entry[3],
        delayed_due=entry[4],
        waiting_children=entry[5],
        completed=entry[6],
        failed=entry[7],
        is_paused=bool(entry[8]),
        oldest_waiting_ms=_age_ms(now_ms, entry[9]),
        next_due_ms=int(entry[10]) if entry[10] else None,
        server_time_ms=now_ms,
        locks_by_worker={
            name.decode(errors="replace"): jobs for name, jobs in zip(locks[::2], locks[1::2], strict=True)
        },
        global_concurrency=positive(entry[12]),
        limit_max=positive(entry[13]),
        limit_duration_ms=positive(entry[14]),
        limit_used=positive(entry[15]) or 0,
        overdue_schedulers=entry[16] if entry[16] >= 0 else None,
    )


def _age_ms(now_ms: int, timestamp: bytes) -> int | None:
    """How long ago that was; None when the job says nothing, or no time."""
    try:
        return max(0, now_ms - int(float(timestamp)))
    except (ValueError, OverflowError):
        return None
