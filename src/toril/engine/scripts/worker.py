"""Scripts of those who work jobs: take, end, keep locks, give stalled jobs back."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any

from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call, Part
from toril.engine.scripts.shared import Layout, texts
from toril.jobs.job import fields_of, text_of_id
from toril.jobs.outcome import LOCK_MS, Finish, TakenJob
from toril.jobs.retention import KeepPolicy

NEW_JOB_FIELDS = 7
"""A job that is new and tied to nothing comes as its values alone, and its id."""
MAX_JOB_BYTES = 64 * 1024 * 1024
"""Bytes of all fields of a job together. A larger job is failed, and its large fields are not sent to the worker."""
FLAGGED = -2
"""In place of a rate limit: the worker is to take nothing, since it is to be removed."""


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
    lock_ms: int = LOCK_MS
    layout: Layout = "6"
    limiter: Limiter | None = None
    metrics_minutes: int = 0
    """How many minutes of BullMQ's metrics to keep; 0 = none are written."""
    max_job_bytes: int = MAX_JOB_BYTES
    """A job whose fields are larger together is taken without its large fields, to be failed."""

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
    is_draining: bool = False
    """Whether the worker is flagged, so that it takes nothing: see `engine.draining`."""


def group_of(finish: Finish) -> tuple[Part, ...]:
    """What many ends have in common: a group of the script `finish_and_take`, its parts in the order of the header."""
    job, kind = finish.job, finish.kind
    is_plain = kind == "completed" and not finish.is_repeated and not job.is_suspect
    details = _keep_json(finish.keep) if is_plain else _details_json(finish)
    shared = "null" if kind == "completed" and finish.value == "null" else ""
    return (job.token, job.attempts_started, job.attempts_made + 1, kind, details, job.new_fields, shared)


def _details_json(finish: Finish) -> str:
    details: dict[str, str | int] = {
        "stacktrace": finish.stacktrace, "delay_ms": finish.delay_ms, "attempts": finish.attempts
    }  # fmt: skip
    if not finish.has_started:
        details["is_unstarted"] = True
    if finish.is_repeated:
        details["stalled_before"] = finish.job.stalled_count
    if finish.job.is_suspect and finish.kind != "requeue":
        # Its worker has outlived it.
        details["is_cleared"] = True
    return json.dumps({**details, **_keep_details(finish.keep)}, ensure_ascii=False, separators=(",", ":"))


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


def finish_and_take(
    keys: QueueKeys, taker: Taker, finishes: Sequence[Finish], count: int, token: str
) -> Call[FinishReply]:
    """End jobs, and take up to `count` new ones (0 = none) and lock them with `token`, in one call.

    Not to be repeated with the same `count`: jobs may have been taken. See `adopt_jobs`.
    """
    groups: dict[tuple[Part, ...], int] = {}
    ends: list[Part] = []
    for group, run in groupby(finishes, group_of):
        same = list(run)
        ends += (groups.setdefault(group, len(groups) + 1), len(same))
        if group[-1]:
            ends += [finish.job.id for finish in same]
        else:
            ends += chain.from_iterable((finish.job.id, finish.value) for finish in same)
    args = [
        *taker.args(keys, count, token), taker.metrics_minutes, taker.max_job_bytes, len(groups),
        *chain.from_iterable(groups), *ends,
    ]  # fmt: skip

    def parse(reply: Any) -> FinishReply:
        return FinishReply(reply[0] or [0] * len(finishes), _taken(reply[1], token, taker))

    return Call("finish_and_take", [keys.meta], args, parse)


def extend_locks(keys: QueueKeys, jobs: Sequence[TakenJob], lock_ms: int) -> Call[set[str]]:
    """Keep jobs ours for another `lock_ms`; answers the ids that are no longer ours."""
    args: list[Part] = [keys.base, lock_ms]
    for job in jobs:
        args += [job.id, job.token, job.attempts_started]
    return Call("extend_locks", [keys.active, keys.stalled], args, lambda reply: set(texts(reply)))


def adopt_jobs(
    keys: QueueKeys, token_prefix: str, known_ids: Iterable[str], max_job_bytes: int = MAX_JOB_BYTES
) -> Call[list[TakenJob]]:
    """Find active jobs that tokens with this prefix lock, beside the known ones: a part of them, or none.

    A job larger than `max_job_bytes` comes without its large fields, and as one that has failed while it waited.
    """

    def parse(reply: Any) -> list[TakenJob]:
        return [taken(text_of_id(job_id), fields_of(flat), token.decode(), size) for job_id, flat, token, size in reply]

    def taken(job_id: str, fields: dict[bytes, bytes], token: str, size: int) -> TakenJob:
        if size:
            fields[b"defa"] = _too_large(size, max_job_bytes)
        return TakenJob(job_id, fields, token)

    return Call("adopt_jobs", [keys.active], [keys.base, token_prefix, max_job_bytes, *known_ids], parse)


def recover_stalled(
    keys: QueueKeys, *, max_stalled_count: int, interval_ms: int, layout: Layout = "6"
) -> Call[list[str]]:
    """Give back jobs whose worker is gone; answers their ids. At most one check an interval, whoever makes it."""
    names = [
        keys.stalled, keys.wait, keys.paused, keys.active, keys.stalled_check, keys.meta, keys.marker, keys.events,
        keys.repeat,
    ]  # fmt: skip
    return Call("recover_stalled", names, [keys.base, layout, max_stalled_count, interval_ms], texts)


def register_worker(
    keys: QueueKeys,
    name: str,
    process: str,
    container: str,
    *,
    max_stalled_count: int,
    lifetime_ms: int,
    is_start: bool,
    layout: Layout = "6",
) -> Call[list[str]]:
    """Register a process that works on the queue; answers the ids of the jobs of a dead one that were given back."""
    args: list[Part] = [
        keys.base, layout, name, process, container, max_stalled_count, lifetime_ms, 1 if is_start else 0
    ]  # fmt: skip
    return Call("register_worker", [keys.meta], args, texts)


def flag_workers(keys: QueueKeys, names: Sequence[str], lifetime_ms: int) -> Call[int]:
    """Flag workers that are to take nothing more; answers how many were not flagged before."""
    return Call("flag_workers", [keys.draining], [lifetime_ms, *names], int)


def _too_large(size: int, max_job_bytes: int) -> bytes:
    """Why a job of this size (bytes) fails."""
    text = f"the job is {size} bytes, and this worker reads {max_job_bytes} at most (TORIL_MAX_JOB_BYTES)"
    return text.encode()


def _taken(reply: Any, token: str, taker: Taker) -> Taken:
    """Read what the script says of taken jobs; the fields that taking wrote are put in here."""
    written = {b"processedOn": reply[2]}
    if taker.worker_name:
        written[b"pb"] = taker.worker_name.encode()
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
            job_id, started, flat, *size = job
            fields = {**fields_of(flat), b"ats": started, **written}
            if size:
                fields[b"defa"] = _too_large(size[0], taker.max_job_bytes)
        jobs.append(TakenJob(text_of_id(job_id), fields, token, is_new=is_new))
    limit = reply[0]
    return Taken(jobs, max(limit, 0), reply[1], is_counted=limit not in (0, FLAGGED), is_draining=limit == FLAGGED)
