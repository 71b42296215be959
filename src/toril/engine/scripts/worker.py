"""Scripts of those who work jobs: take, end, keep locks, give stalled jobs back."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any, Literal

from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call, Part
from toril.engine.scripts.shared import Layout, texts
from toril.jobs.job import JobRecord, attempts_made_in, attempts_started_in, fields_of, text_of_id
from toril.jobs.retention import KEEP_ALL, KeepPolicy

NEW_JOB_FIELDS = 7
"""A job that is new and tied to nothing comes as its values alone, and its id."""


class TakenJob(JobRecord):
    """A job that we hold: its record at the start of this attempt, and the token of its lock."""

    # What is asked for more than once a job is read once: values in place of the record's properties.
    __slots__ = ("attempts_made", "attempts_started", "new_fields", "token")
    attempts_made: int
    attempts_started: int

    def __init__(self, job_id: str, fields: dict[bytes, bytes], token: str, *, is_new: bool = False) -> None:
        """Args: fields: the job's hash as it is now; is_new: it was never started before, and is tied to nothing."""
        super().__init__(job_id, fields)
        self.token = token
        self.new_fields = len(fields) if is_new else 0
        self.attempts_made = attempts_made_in(fields)  # pyright: ignore[reportIncompatibleMethodOverride]
        self.attempts_started = attempts_started_in(fields)  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def data_bytes(self) -> int:
        return len(self._fields.get(b"data", b""))


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
    metrics_minutes: int = 0
    """How many minutes of BullMQ's metrics to keep; 0 = none are written."""

    def args(self, keys: QueueKeys, count: int, token: str) -> list[Part]:
        limits: tuple[Part, Part] = ("", "")
        if self.limiter:
            limits = (self.limiter.max, self.limiter.duration_ms)
        return [keys.base, self.layout, count, token, self.lock_ms, self.worker_name, *limits]


@dataclass(slots=True)
class Taken:
    """What a take brought."""

    jobs: list[TakenJob] = field(default_factory=list)
    rate_limit_ms: int = 0
    """How long to wait until the rate limit allows more; 0 = not limited."""
    next_due_ms: int = 0
    """When the first delayed job is due, Unix milliseconds; 0 = not known."""
    is_counted: bool = False
    """Whether a rate limit counts the jobs taken, reached or not."""


Kind = Literal["completed", "failed", "retry", "requeue", "limit", "delay", "waiting-children"]


@dataclass(slots=True)
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
    has_started: bool = True
    """Of a job that goes back to the front: if not, then its having been taken does not count as a start either."""
    is_repeated: bool = False
    """Whether it was sent before and not answered: it may have been carried out, and others may have the job by now."""

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
    def requeue(cls, job: TakenJob, *, has_started: bool = True) -> Finish:
        """Back to the front of the line; the attempt does not count."""
        return cls(job, "requeue", has_started=has_started)

    @classmethod
    def limit(cls, job: TakenJob, duration_ms: int) -> Finish:
        """The same, and nothing is taken for `duration_ms`; 0 = for as long as somebody has said before."""
        return cls(job, "limit", delay_ms=duration_ms)

    @classmethod
    def delay(cls, job: TakenJob, delay_ms: int) -> Finish:
        """To be run anew after `delay_ms`; the attempt does not count."""
        return cls(job, "delay", delay_ms=delay_ms)

    @classmethod
    def wait_for_children(cls, job: TakenJob) -> Finish:
        """To be run anew when its children have ended, at once if they have; the attempt does not count.

        Refused with -9 when one has failed that fails its parent.
        """
        return cls(job, "waiting-children")

    def group(self) -> tuple[Part, ...]:
        """What many ends have in common: token, attempts, kind, details, fields of a new job, the value `null`."""
        job, kind = self.job, self.kind
        is_plain = kind == "completed" and not self.is_repeated
        details = _keep_json(self.keep) if is_plain else self._details_json()
        shared = "null" if kind == "completed" and self.value == "null" else ""
        return (job.token, job.attempts_started, job.attempts_made + 1, kind, details, job.new_fields, shared)

    def _details_json(self) -> str:
        details: dict[str, str | int] = {
            "stacktrace": self.stacktrace, "delay_ms": self.delay_ms, "attempts": self.attempts
        }  # fmt: skip
        if not self.has_started:
            details["is_unstarted"] = True
        if self.is_repeated:
            details["stalled_before"] = self.job.stalled_count
        return json.dumps({**details, **_keep_details(self.keep)}, ensure_ascii=False, separators=(",", ":"))


def _keep_details(keep: KeepPolicy) -> dict[str, int]:
    age_ms = None if keep.age_seconds is None else int(keep.age_seconds * 1000)
    found = {"keep_count": keep.count, "keep_age_ms": age_ms, "keep_limit": keep.limit}
    return {name: value for name, value in found.items() if value is not None}


@functools.lru_cache(256)
def _keep_json(keep: KeepPolicy) -> str:
    """The details of a completed job: nothing but what is kept. Empty for everything, which costs nothing."""
    details = _keep_details(keep)
    return json.dumps(details, separators=(",", ":")) if details else ""


@dataclass(slots=True)
class FinishReply:
    """Codes of the finishes in order (0 done, 1 done already, below 0 refused: see the script), and what was taken."""

    codes: list[int]
    taken: Taken


def take_jobs(keys: QueueKeys, taker: Taker, count: int, token: str) -> Call[Taken]:
    """Take up to `count` jobs and lock them with `token`. Not to be repeated: see `adopt_jobs`."""
    args = taker.args(keys, count, token)
    return Call("take_jobs", [keys.meta], args, lambda reply: _taken(reply, token, taker.worker_name))


def finish_and_take(
    keys: QueueKeys, taker: Taker, finishes: Sequence[Finish], count: int, token: str
) -> Call[FinishReply]:
    """End jobs and take up to `count` new ones (0 = none) in one call."""
    groups: dict[tuple[Part, ...], int] = {}
    ends: list[Part] = []
    for group, run in groupby(finishes, Finish.group):
        same = list(run)
        ends += (groups.setdefault(group, len(groups) + 1), len(same))
        if group[-1]:
            ends += [finish.job.id for finish in same]
        else:
            ends += chain.from_iterable((finish.job.id, finish.value) for finish in same)
    args = [*taker.args(keys, count, token), taker.metrics_minutes, len(groups), *chain.from_iterable(groups), *ends]

    def parse(reply: Any) -> FinishReply:
        return FinishReply(reply[0] or [0] * len(finishes), _taken(reply[1], token, taker.worker_name))

    return Call("finish_and_take", [keys.meta], args, parse)


def extend_locks(keys: QueueKeys, jobs: Sequence[TakenJob], lock_ms: int) -> Call[set[str]]:
    """Keep jobs ours for another `lock_ms`; answers the ids that are no longer ours."""
    args: list[Part] = [keys.base, lock_ms]
    for job in jobs:
        args += [job.id, job.token, job.attempts_started]
    return Call("extend_locks", [keys.active, keys.stalled], args, lambda reply: set(texts(reply)))


def adopt_jobs(keys: QueueKeys, token_prefix: str, known_ids: Iterable[str]) -> Call[list[TakenJob]]:
    """Find active jobs that tokens with this prefix lock, beside the known ones: a part of them, or none."""

    def parse(reply: Any) -> list[TakenJob]:
        return [TakenJob(text_of_id(job_id), fields_of(flat), token.decode()) for job_id, flat, token in reply]

    return Call("adopt_jobs", [keys.active], [keys.base, token_prefix, *known_ids], parse)


def recover_stalled(
    keys: QueueKeys, *, max_stalled_count: int, interval_ms: int, layout: Layout = "6"
) -> Call[list[str]]:
    """Give back jobs whose worker is gone; answers their ids. At most one check an interval, whoever makes it."""
    names = [
        keys.stalled, keys.wait, keys.paused, keys.active, keys.stalled_check, keys.meta, keys.marker, keys.events,
        keys.repeat,
    ]  # fmt: skip
    return Call("recover_stalled", names, [keys.base, layout, max_stalled_count, interval_ms], texts)


def _taken(reply: Any, token: str, worker_name: str) -> Taken:
    """Read what `take_jobs` returns; the fields that taking wrote are put in here."""
    written = {b"processedOn": reply[2]}
    if worker_name:
        written[b"pb"] = worker_name.encode()
    jobs = []
    for job in reply[3:]:
        is_new = len(job) == NEW_JOB_FIELDS
        if is_new:
            name, data, opts, timestamp, delay, priority, job_id = job
            fields = {
                b"name": name, b"data": data, b"opts": opts, b"timestamp": timestamp, b"delay": delay,
                b"priority": priority, b"ats": b"1", **written,
            }  # fmt: skip
        else:
            job_id, started, flat = job
            fields = {**fields_of(flat), b"ats": started, **written}
        jobs.append(TakenJob(text_of_id(job_id), fields, token, is_new=is_new))
    return Taken(jobs, max(reply[0], 0), reply[1], reply[0] != 0)
