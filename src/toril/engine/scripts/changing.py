"""Scripts that change, move or remove one job. Codes below 0 are refusals: see the script."""

from __future__ import annotations

from toril.engine.connection import Call, Part
from toril.engine.keys import QueueKeys
from toril.engine.scripts.shared import Layout, is_there


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
    """Let a job be nobody's child any more."""
    return Call("leave_parent", [keys.meta], [keys.base, layout, job_id], int)
