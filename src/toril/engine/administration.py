"""What is done to a queue and its jobs from outside, as operations for either kind of connection.

Large queues are worked off in calls of `JOBS_PER_CALL`; between two calls others have their turn. Ages and due times go
by Redis's clock. The functions raise what a caller of them must see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from toril import errors
from toril.engine import scripts
from toril.engine.codes import Code
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.scripts import Layout
from toril.jobs.job import JobState

JOBS_PER_CALL = 1000
DEFAULT_MAX_EVENTS = 10_000
"""Entries of the event stream without `opts.maxLenEvents`: BullMQ's default, as in `lua/includes/events.lua`."""
SCAN_PAGE = 1000
"""Keys that Redis looks at in one step when leftovers of a queue are searched."""

_PLACES: Mapping[JobState, tuple[str, ...]] = {
    JobState.WAITING: ("wait", "paused"),
    JobState.ACTIVE: ("active",),
    JobState.DELAYED: ("delayed",),
    JobState.PRIORITIZED: ("prioritized",),
    JobState.WAITING_CHILDREN: ("waiting-children",),
    JobState.COMPLETED: ("completed",),
    JobState.FAILED: ("failed",),
}
_LIVING_KEYS = frozenset(
    (
        "wait", "paused", "active", "prioritized", "delayed", "waiting-children", "completed", "failed", "meta",
        "events", "id", "pc", "marker", "stalled", "stalled-check", "limiter", "repeat",
    )
)  # fmt: skip
"""Last parts of the keys that the last round of `obliterate` removes itself."""
_ROOTS = frozenset(("de", "dn", "repeat", "metrics", "toril"))

Finished = Literal["completed", "failed"]


# ---- one job


def promote(keys: QueueKeys, job_id: str, *, layout: Layout = "6") -> Operation[None]:
    """Let a delayed job run now. Raises JobNotFoundError, JobStateError."""
    _check((yield scripts.promote_job(keys, job_id, layout=layout)), keys, job_id, "delayed")


def retry(
    keys: QueueKeys,
    job_id: str,
    state: Finished = "failed",
    *,
    reset_attempts_made: bool = False,
    reset_attempts_started: bool = False,
    layout: Layout = "6",
) -> Operation[None]:
    """Let a finished job run again. Raises JobNotFoundError, JobStateError."""
    code = yield scripts.retry_job(
        keys,
        job_id,
        state,
        reset_attempts_made=reset_attempts_made,
        reset_attempts_started=reset_attempts_started,
        layout=layout,
    )
    _check(code, keys, job_id, state)


def change_delay(keys: QueueKeys, job_id: str, delay_ms: int) -> Operation[None]:
    """Let a delayed job run `delay_ms` from now. Raises JobNotFoundError, JobStateError."""
    _check((yield scripts.change_delay(keys, job_id, delay_ms)), keys, job_id, "delayed")


def change_priority(
    keys: QueueKeys, job_id: str, priority: int, *, lifo: bool = False, layout: Layout = "6"
) -> Operation[None]:
    """Change a job's priority, and its place if it waits. Raises JobNotFoundError."""
    _check((yield scripts.change_priority(keys, job_id, priority, lifo=lifo, layout=layout)), keys, job_id, "")


def remove(keys: QueueKeys, job_id: str, *, with_children: bool = True, layout: Layout = "6") -> Operation[None]:
    """Remove a job; nothing happens when there is none.

    With more than `JOBS_PER_CALL` children it takes several calls; when a worker takes one of them in between, those
    that are gone stay gone.

    Raises:
        JobLockedError: a worker runs it, or one of the jobs that it waits for; nothing was removed.
        JobStateError: it is the next run of a job scheduler, and goes with that.
    """
    code, has_begun = 2, False
    while code == 2:
        code = yield scripts.remove_job(
            keys, job_id, with_children=with_children, count=JOBS_PER_CALL, has_begun=has_begun, layout=layout
        )
        has_begun = True
    if code == 0:
        raise errors.JobLockedError(f"job {job_id} of queue {keys.queue}, or a child of it, is being run by a worker")
    _check(code, keys, job_id, "")


def remove_unprocessed_children(keys: QueueKeys, job_id: str, *, layout: Layout = "6") -> Operation[None]:
    """Remove the children of a job that have not ended and that no worker holds, and their children in turn."""
    cursor = "0"
    while cursor:
        cursor = yield scripts.remove_children(keys, job_id, count=JOBS_PER_CALL, cursor=cursor, layout=layout)


def leave_parent(keys: QueueKeys, job_id: str, *, layout: Layout = "6") -> Operation[bool]:
    """Detach a job from its parent; return whether its parent was waiting for it.

    Raises:
        JobNotFoundError: there is no such job.
        JobStateError: it has no parent.
    """
    code = yield scripts.leave_parent(keys, job_id, layout=layout)
    _check(code, keys, job_id, "")
    return bool(code == 0)


def clear_logs(keys: QueueKeys, job_id: str, keep: int = 0) -> Operation[None]:
    """Remove a job's log rows but for the newest `keep`. Redis: LTRIM or DEL on `logs`."""
    if keep > 0:
        yield ("LTRIM", keys.logs(job_id), -keep, -1)
    else:
        yield ("DEL", keys.logs(job_id))


def update_progress(keys: QueueKeys, job_id: str, progress_json: str) -> Operation[None]:
    """Store a job's progress and emit it. Raises JobNotFoundError."""
    is_there = yield scripts.update_progress(keys, job_id, progress_json)
    _check(Code.DONE if is_there else Code.NO_JOB, keys, job_id, "")


def update_data(keys: QueueKeys, job_id: str, data_json: str) -> Operation[None]:
    """Replace a job's data. Raises JobNotFoundError."""
    is_there = yield scripts.update_data(keys, job_id, data_json)
    _check(Code.DONE if is_there else Code.NO_JOB, keys, job_id, "")


def add_log(keys: QueueKeys, job_id: str, row: str, keep: int | None = None) -> Operation[int]:
    """Append a row to a job's log and return how many there are. Raises JobNotFoundError."""
    rows: int = yield scripts.add_log(keys, job_id, row, keep)
    _check(rows, keys, job_id, "")
    return rows


# ---- the queue


def pause(keys: QueueKeys, *, layout: Layout = "6") -> Operation[bool]:
    """Pause the queue; return whether it was running."""
    was_running: bool = yield scripts.pause(keys, layout=layout)
    return was_running


def resume(keys: QueueKeys) -> Operation[bool]:
    """Resume the queue; return whether it was paused."""
    was_paused: bool = yield scripts.resume(keys)
    return was_paused


def promote_all(keys: QueueKeys, *, layout: Layout = "6") -> Operation[int]:
    """Let all delayed jobs run now, soonest first; return how many. Those that are delayed anew meanwhile stay so."""
    return (yield from _requeue_all(keys, "delayed", None, layout))


def retry_all(
    keys: QueueKeys, state: Finished = "failed", *, until_ms: int | None = None, layout: Layout = "6"
) -> Operation[int]:
    """Let all jobs run again that finished until then (None = now), oldest first; return how many."""
    return (yield from _requeue_all(keys, state, until_ms, layout))


def drain(keys: QueueKeys, *, delayed: bool = False, layout: Layout = "6") -> Operation[int]:
    """Remove all jobs that wait, but for the next runs of job schedulers; return how many.

    Args:
        delayed: remove delayed ones too.
    """
    removed = 0
    for place in ("wait", "paused", *(("delayed",) if delayed else ()), "prioritized"):
        removed += len((yield from _sweep(keys, place, None, 0, layout, emits_cleaned=False)))
    return removed


def clean(
    keys: QueueKeys, state: JobState, *, grace_ms: int = 0, limit: int = 0, layout: Layout = "6"
) -> Operation[list[str]]:
    """Remove jobs of one state that are older than `grace_ms`, oldest first; return their ids.

    Kept are jobs that a worker runs, and the next runs of job schedulers. A job's age counts from its end, else from
    its last start, else from its creation; for prioritized ones always from creation.

    Args:
        limit: read so many at most; 0 = all.
    """
    seconds, microseconds = yield ("TIME",)
    cutoff_ms = int(seconds) * 1000 + int(microseconds) // 1000 - grace_ms
    removed: list[str] = []
    for place in _PLACES[state]:
        if place == "paused" and not (yield ("EXISTS", keys.paused)):
            continue
        left = limit - len(removed)
        if limit and left <= 0:
            break
        removed += yield from _sweep(keys, place, cutoff_ms, left if limit else 0, layout, emits_cleaned=True)
    return removed


def obliterate(keys: QueueKeys, *, force: bool = False, layout: Layout = "6") -> Operation[None]:
    """Remove the queue with everything in it; it is paused meanwhile. No key is left, whoever wrote it.

    Args:
        force: also when jobs are running; their workers find them gone.

    Raises:
        JobStateError: jobs are running; nothing was changed.

    Redis: rounds of 1000 jobs, then one SCAN of the whole database for what no list of the queue names.
    """
    is_swept = False
    while True:
        code = yield scripts.obliterate(keys, force=force, count=JOBS_PER_CALL, is_last=is_swept, layout=layout)
        if code == scripts.JOBS_RUNNING:
            raise errors.JobStateError(f"queue {keys.queue} has running jobs: wait for them, or use force")
        if code == 0 and is_swept:
            return
        if code == 0:
            yield from _remove_leftovers(keys)
            is_swept = True


def publish_event(keys: QueueKeys, event: str, fields: Mapping[str, str]) -> Operation[str]:
    """Append an event of one's own to the queue's stream; return its id. The queue's own cap of the stream holds."""
    (cap,) = yield ("HMGET", keys.meta, "opts.maxLenEvents")
    parts = [text for field in fields.items() for text in field]
    # What is no number counts as not set, as in the scripts.
    known_cap = int(cap) if cap and cap.isdigit() and len(cap) < 19 else DEFAULT_MAX_EVENTS
    entry_id: bytes = yield ("XADD", keys.events, "MAXLEN", "~", known_cap, "*", "event", event, *parts)
    return entry_id.decode()


# ---- helpers


def _check(code: int, keys: QueueKeys, job_id: str, needed_state: str) -> None:
    """Raise what a script's refusal means."""
    if code >= 0:
        return
    where = f"job {job_id} of queue {keys.queue}"
    if code == Code.NO_JOB:
        raise errors.JobNotFoundError(f"{where} is gone")
    if code == Code.NO_PARENT:
        raise errors.JobStateError(f"{where} has no parent")
    if code == Code.OF_SCHEDULER:
        raise errors.JobStateError(f"{where} is the next run of a job scheduler: remove that")
    raise errors.JobStateError(f"{where} is not {needed_state}")


def _requeue_all(keys: QueueKeys, state: str, until_ms: int | None, layout: Layout) -> Operation[int]:
    moved = 0
    left: int | None = None
    while left is None or left > 0:
        call = scripts.requeue_jobs(keys, state, count=JOBS_PER_CALL, until_ms=until_ms, layout=layout)
        count, there, until_ms = yield call
        moved += count
        # What comes in while this goes on is not ours to move.
        left = there if left is None else min(there, left - JOBS_PER_CALL)
    return moved


def _sweep(
    keys: QueueKeys, place: str, cutoff_ms: int | None, limit: int, layout: Layout, *, emits_cleaned: bool
) -> Operation[list[str]]:
    removed: list[str] = []
    skip, looked_at = 0, 0
    while skip >= 0 and (not limit or looked_at < limit):
        count = min(JOBS_PER_CALL, limit - looked_at) if limit else JOBS_PER_CALL
        skip, ids = yield scripts.sweep_jobs(
            keys, place, skip=skip, count=count, cutoff_ms=cutoff_ms, emits_cleaned=emits_cleaned, layout=layout
        )
        looked_at += count
        removed += ids
    return removed


def _remove_leftovers(keys: QueueKeys) -> Operation[None]:
    """Remove the keys under the queue's base that its last round does not: of jobs in no list, of deduplication, of
    schedulers and metrics, and our own."""
    pattern = "".join("\\" + char if char in "*?[]\\" else char for char in keys.base) + "*"
    known_bases: dict[str, bool] = {}
    cursor: str | bytes = "0"
    while True:
        cursor, found = yield ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_PAGE)
        leftovers = []
        for raw in found:
            name = raw[len(keys.base.encode()) :].decode(errors="surrogateescape")
            if name not in _LIVING_KEYS and not (yield from _is_another_queues(keys, name, known_bases)):
                leftovers.append(raw)
        if leftovers:
            yield ("UNLINK", *leftovers)
        if int(cursor) == 0:
            return


def _is_another_queues(keys: QueueKeys, name: str, known_bases: dict[str, bool]) -> Operation[bool]:
    """Whether a key under our base is that of a queue whose prefix begins with it (prefix `bull:email` beside queue
    `email`): such a queue has a `meta`, and a job never."""
    parts = name.split(":")
    if parts[0] in _ROOTS:
        return False
    for length in range(1, len(parts)):
        base = keys.base + ":".join(parts[:length])
        if base not in known_bases:
            known_bases[base] = bool((yield ("EXISTS", base + ":meta")))
        if known_bases[base]:
            return True
    return False
