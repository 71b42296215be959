"""Scripts that change, move or remove jobs, or act on a whole queue. Codes below 0 are refusals: see the script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call, Part
from toril.engine.scripts.shared import Layout, is_there, texts


def update_progress(keys: QueueKeys, job_id: str, progress_json: str) -> Call[bool]:
    """Store progress; answers whether the job is there."""
    return Call("update_progress", [keys.job(job_id), keys.events, keys.meta], [job_id, progress_json], is_there)


def add_log(keys: QueueKeys, job_id: str, row: str, keep: int | None) -> Call[int]:
    """Append a row to the job's log; answers how many rows there are, −1 without a job."""
    return Call("add_log", [keys.job(job_id), keys.logs(job_id)], [row, "" if keep is None else keep], int)


def update_data(keys: QueueKeys, job_id: str, data_json: str) -> Call[bool]:
    """Replace the job's data; answers whether the job is there."""
    return Call("update_data", [keys.job(job_id)], [data_json], is_there)


def promote_job(keys: QueueKeys, job_id: str, *, layout: Layout = "6") -> Call[int]:
    """Let a delayed job run now."""
    return Call("promote_job", [keys.meta], [keys.base, layout, job_id], int)


def retry_job(
    keys: QueueKeys,
    job_id: str,
    state: str,
    *,
    reset_attempts_made: bool = False,
    reset_attempts_started: bool = False,
    layout: Layout = "6",
) -> Call[int]:
    """Let a completed or failed job run again."""
    resets = ["1" if flag else "0" for flag in (reset_attempts_made, reset_attempts_started)]
    return Call("retry_job", [keys.meta], [keys.base, layout, job_id, state, *resets], int)


def change_delay(keys: QueueKeys, job_id: str, delay_ms: int) -> Call[int]:
    """Let a delayed job run `delay_ms` from now."""
    return Call("change_delay", [keys.meta], [keys.base, job_id, delay_ms], int)


def change_priority(
    keys: QueueKeys, job_id: str, priority: int, *, lifo: bool = False, layout: Layout = "6"
) -> Call[int]:
    """Change a job's priority, and its place if it waits."""
    args: list[Part] = [keys.base, layout, job_id, priority, "1" if lifo else "0"]
    return Call("change_priority", [keys.meta], args, int)


def remove_job(
    keys: QueueKeys, job_id: str, *, with_children: bool, count: int, has_begun: bool = False, layout: Layout = "6"
) -> Call[int]:
    """Remove a job, and up to `count` jobs in all with its children; `has_begun`: go on with that."""
    flags = ["1" if flag else "0" for flag in (with_children, has_begun)]
    return Call("remove_job", [keys.meta], [keys.base, layout, job_id, flags[0], count, flags[1]], int)


def remove_children(keys: QueueKeys, job_id: str, *, count: int, cursor: str = "0", layout: Layout = "6") -> Call[str]:
    """Remove up to `count` of a job's children that have not ended; answers the next call's `cursor`, empty = done."""
    return Call("remove_children", [keys.meta], [keys.base, layout, job_id, count, cursor], bytes.decode)


def leave_parent(keys: QueueKeys, job_id: str, *, layout: Layout = "6") -> Call[int]:
    """Detach a job from its parent."""
    return Call("leave_parent", [keys.meta], [keys.base, layout, job_id], int)


def pause(keys: QueueKeys, *, layout: Layout = "6") -> Call[bool]:
    """Pause the queue; answers whether it was running."""
    return Call("pause", [keys.wait, keys.paused, keys.meta, keys.marker, keys.events], [layout], bool)


def resume(keys: QueueKeys) -> Call[bool]:
    """Resume the queue; answers whether it was paused."""
    names = [
        keys.wait, keys.paused, keys.meta, keys.marker, keys.events, keys.prioritized, keys.delayed,
    ]  # fmt: skip
    return Call("resume", names, [], bool)


def set_limits(keys: QueueKeys, limits: Mapping[str, int | None], *, layout: Layout = "6") -> Call[bool]:
    """Set fields of `meta` that limit the queue (`concurrency`, `max`, `duration`); None removes one."""
    args: list[Part] = [keys.base, layout]
    for field, value in limits.items():
        args += [field, "" if value is None else value]
    return Call("set_limits", [keys.meta], args, bool)


def requeue_jobs(
    keys: QueueKeys, state: str, *, count: int, until_ms: int | None = None, layout: Layout = "6"
) -> Call[tuple[int, int, int]]:
    """Let failed, completed or delayed jobs run now; answers how many were moved, how many are left, and `until_ms`."""

    def parse(reply: Any) -> tuple[int, int, int]:
        return reply[0], reply[1], int(reply[2])

    args: list[Part] = [keys.base, layout, state, count, "" if until_ms is None else until_ms]
    return Call("requeue_jobs", [keys.meta], args, parse)


def sweep_jobs(
    keys: QueueKeys,
    place: str,
    *,
    skip: int,
    count: int,
    cutoff_ms: int | None = None,
    emits_cleaned: bool = False,
    layout: Layout = "6",
) -> Call[tuple[int, list[str]]]:
    """Remove jobs of one window of a place; answers where the next one begins (−1 = there is none), and their ids."""

    def parse(reply: Any) -> tuple[int, list[str]]:
        return reply[0], texts(reply[1:])

    cutoff: Part = "" if cutoff_ms is None else cutoff_ms
    return Call(
        "sweep_jobs", [keys.meta], [keys.base, layout, place, cutoff, skip, count, "1" if emits_cleaned else "0"], parse
    )


JOBS_RUNNING = -2
"""The answer of `obliterate` when jobs are running: nothing was removed."""


def obliterate(keys: QueueKeys, *, force: bool, count: int, is_last: bool = False, layout: Layout = "6") -> Call[int]:
    """Remove up to `count` jobs of a queue, and in the last round its own keys; answers the script's code."""
    args: list[Part] = [keys.base, layout, "1" if force else "0", count, "1" if is_last else "0"]
    return Call("obliterate", [keys.meta], args, int)
