"""One function for each Lua script: its signature is the script's contract. Pure: makes `Call`s, runs nothing.

Name, keys and arguments of a function equal the header of `lua/<name>.lua`; a test compares them. Times are Unix
milliseconds and lengths milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from toril import errors
from toril.engine.connection import Call, Part
from toril.engine.keys import QueueKeys
from toril.jobs.job import JobRecord, JobState, NewJob
from toril.jobs.retention import KEEP_ALL, KeepPolicy
from toril.jobs.signals import QueueSignals

Layout = Literal["5", "6"]
"""Where the jobs of a paused queue wait: `5` in `paused`; `6` in `wait`, unless a BullMQ 5 peer shows itself by the
list `paused` or as the latest in `meta.version`. `5` is for fleets in which both versions pause the same queue."""


class TakenJob(JobRecord):
    """A job that we hold: its record at the start of this attempt, and the token of its lock."""

    __slots__ = ("token",)
    token: str

    @classmethod
    def taken(cls, reply: Sequence[Any], token: str) -> TakenJob:
        """Build from `{id, {field, value…}}` of a take."""
        job = cls.from_reply(reply[0], reply[1])
        assert isinstance(job, TakenJob)
        job.token = token
        return job


@dataclass(frozen=True, slots=True)
class Limiter:
    """A worker's own rate limit; a limit of the queue itself goes before it."""

    max: int
    """Jobs."""
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Taker:
    """Who takes, and how."""

    worker_name: str = ""
    """Stored on the job (`pb`); empty = none."""
    lock_ms: int = 30_000
    layout: Layout = "6"
    limiter: Limiter | None = None

    def args(self, keys: QueueKeys, count: int, token: str) -> list[Part]:
        limits: tuple[Part, Part] = ("", "")
        if self.limiter:
            limits = (self.limiter.max, self.limiter.duration_ms)
        return [keys.base, self.layout, count, token, self.lock_ms, self.worker_name, *limits]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a take brought."""

    jobs: list[TakenJob] = field(default_factory=list)
    rate_limit_ms: int = 0
    """How long to wait until the rate limit allows more; 0 = not limited."""
    next_due_ms: int = 0
    """When the first delayed job is due, Unix milliseconds; 0 = not known."""


Kind = Literal["completed", "failed", "retry", "requeue"]


@dataclass(frozen=True, slots=True)
class Finish:
    """How one active job ends. Sending it twice is safe."""

    job: TakenJob
    kind: Kind
    value: str = ""
    """JSON return value of `completed`; plain reason of `failed` and `retry`."""
    stacktrace: str = "[]"
    """JSON array of texts, oldest first."""
    delay_ms: int = 0
    keep: KeepPolicy = KEEP_ALL
    attempts: int = 0
    """Attempts the job may have; decides whether `retries-exhausted` is told."""

    @classmethod
    def completed(cls, job: TakenJob, return_value_json: str, keep: KeepPolicy = KEEP_ALL) -> Finish:
        return cls(job, "completed", return_value_json, keep=keep)

    @classmethod
    def failed(
        cls, job: TakenJob, reason: str, stacktrace_json: str, keep: KeepPolicy = KEEP_ALL, *, attempts: int = 0
    ) -> Finish:
        return cls(job, "failed", reason, stacktrace_json, keep=keep, attempts=attempts)

    @classmethod
    def retry(cls, job: TakenJob, reason: str, stacktrace_json: str, delay_ms: int) -> Finish:
        """The attempt failed and another follows after `delay_ms`; 0 = as soon as it is its turn."""
        return cls(job, "retry", reason, stacktrace_json, delay_ms)

    @classmethod
    def requeue(cls, job: TakenJob) -> Finish:
        """Back to the front of the line; the attempt does not count."""
        return cls(job, "requeue")

    def args(self) -> list[Part]:
        keep = self.keep
        return [
            self.job.id,
            self.job.token,
            self.job.attempts_started,
            self.job.attempts_made,
            self.kind,
            self.value,
            self.stacktrace,
            self.delay_ms,
            "" if keep.count is None else keep.count,
            "" if keep.age_seconds is None else int(keep.age_seconds * 1000),
            "" if keep.limit is None else keep.limit,
            self.attempts,
        ]


@dataclass(frozen=True, slots=True)
class FinishReply:
    """Codes of the finishes in order (0 done, 1 done already, below 0 refused: see the script), and what was taken."""

    codes: list[int]
    taken: Taken


def add_jobs(keys: QueueKeys, jobs: Sequence[NewJob], *, now_ms: int, layout: Layout = "6") -> Call[list[str]]:
    """Add jobs; answers their ids in order. Source: BullMQ 6.7 `addStandardJob` and its siblings, many at once."""
    args: list[Part] = [keys.base, layout]
    for job in jobs:
        options = job.options
        timestamp = now_ms if options.timestamp_ms is None else options.timestamp_ms
        args += [
            options.job_id,
            job.name,
            job.data_json,
            job.opts_json,
            timestamp,
            options.delay_ms,
            options.priority,
            "1" if options.lifo else "0",
        ]
    names = [
        keys.wait, keys.paused, keys.meta, keys.id, keys.delayed, keys.prioritized, keys.pc, keys.marker, keys.active,
        keys.events,
    ]  # fmt: skip
    return Call("add_jobs", names, args, _texts)


def _taking_keys(keys: QueueKeys) -> list[str]:
    return [
        keys.wait, keys.paused, keys.active, keys.prioritized, keys.pc, keys.delayed, keys.marker, keys.meta,
        keys.limiter, keys.events,
    ]  # fmt: skip


def take_jobs(keys: QueueKeys, taker: Taker, count: int, token: str) -> Call[Taken]:
    """Take up to `count` jobs and lock them with `token`. Not to be repeated: see `adopt_jobs`."""
    return Call("take_jobs", _taking_keys(keys), taker.args(keys, count, token), lambda reply: _taken(reply, token))


def finish_and_take(
    keys: QueueKeys, taker: Taker, finishes: Sequence[Finish], count: int, token: str
) -> Call[FinishReply]:
    """End jobs and take up to `count` new ones (0 = none) in one call."""
    args = taker.args(keys, count, token)
    for finish in finishes:
        args += finish.args()
    names = [*_taking_keys(keys), keys.stalled, keys.completed, keys.failed]

    def parse(reply: Any) -> FinishReply:
        return FinishReply(reply[0], _taken(reply[1], token))

    return Call("finish_and_take", names, args, parse)


def extend_locks(keys: QueueKeys, jobs: Sequence[TakenJob], lock_ms: int) -> Call[set[str]]:
    """Keep jobs ours for another `lock_ms`; answers the ids that are no longer ours."""
    args: list[Part] = [keys.base, lock_ms]
    for job in jobs:
        args += [job.id, job.token, job.attempts_started]
    return Call("extend_locks", [keys.active, keys.stalled], args, lambda reply: set(_texts(reply)))


def adopt_jobs(keys: QueueKeys, token_prefix: str) -> Call[list[TakenJob]]:
    """Find the active jobs that tokens with this prefix lock."""

    def parse(reply: Any) -> list[TakenJob]:
        return [TakenJob.taken(entry, entry[2].decode()) for entry in reply]

    return Call("adopt_jobs", [keys.active], [keys.base, token_prefix], parse)


def recover_stalled(
    keys: QueueKeys, *, max_stalled_count: int, interval_ms: int, layout: Layout = "6"
) -> Call[list[str]]:
    """Give back jobs whose worker is gone; answers their ids. At most one check an interval, whoever makes it."""
    names = [
        keys.stalled, keys.wait, keys.paused, keys.active, keys.stalled_check, keys.meta, keys.marker, keys.events,
        keys.repeat,
    ]  # fmt: skip
    return Call("recover_stalled", names, [keys.base, layout, max_stalled_count, interval_ms], _texts)


def pause(keys: QueueKeys, *, layout: Layout = "6") -> Call[bool]:
    """Pause the queue; answers whether it was running."""
    return Call("pause", [keys.wait, keys.paused, keys.meta, keys.marker, keys.events], [layout], bool)


def resume(keys: QueueKeys) -> Call[bool]:
    """Resume the queue; answers whether it was paused."""
    names = [
        keys.wait, keys.paused, keys.meta, keys.marker, keys.events, keys.prioritized, keys.delayed,
    ]  # fmt: skip
    return Call("resume", names, [], bool)


def read_signals(
    queues: Sequence[QueueKeys], *, with_locks: bool = False
) -> Call[list[QueueSignals | errors.RedisError]]:
    """Read the numbers of queues; one whose keys are unreadable has an error in its place."""
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
        job = JobRecord.from_reply(job_id.encode(), reply[1]) if reply[1] else None
        return JobState(reply[0].decode()), job

    return Call("read_job", names, [job_id], parse)


def read_jobs(keys: QueueKeys, key: str, *, is_list: bool, first: int, last: int) -> Call[list[JobRecord]]:
    """Read the jobs of rank `first` to `last` (−1 = to the end) of one list or sorted set, next or oldest first."""

    def parse(reply: Any) -> list[JobRecord]:
        return [JobRecord.from_reply(job_id, fields) for job_id, fields in reply]

    return Call("read_jobs", [key, keys.base], ["list" if is_list else "zset", first, last], parse)


def update_progress(keys: QueueKeys, job_id: str, progress_json: str) -> Call[bool]:
    """Store progress; answers whether the job is there."""
    return Call("update_progress", [keys.job(job_id), keys.events, keys.meta], [job_id, progress_json], _is_there)


def add_log(keys: QueueKeys, job_id: str, row: str, keep: int | None) -> Call[int]:
    """Append a row to the job's log; answers how many rows there are, −1 without a job."""
    return Call("add_log", [keys.job(job_id), keys.logs(job_id)], [row, "" if keep is None else keep], int)


def update_data(keys: QueueKeys, job_id: str, data_json: str) -> Call[bool]:
    """Replace the job's data; answers whether the job is there."""
    return Call("update_data", [keys.job(job_id)], [data_json], _is_there)


def _texts(reply: Any) -> list[str]:
    return [entry.decode(errors="surrogateescape") for entry in reply]


def _is_there(reply: Any) -> bool:
    return bool(reply != -1)


def _taken(reply: Any, token: str) -> Taken:
    return Taken([TakenJob.taken(entry, token) for entry in reply[2:]], reply[0], reply[1])


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
    )


def _age_ms(now_ms: int, timestamp: bytes) -> int | None:
    """How long ago that was; None when the job says nothing, or no time."""
    try:
        return max(0, now_ms - int(float(timestamp)))
    except (ValueError, OverflowError):
        return None
