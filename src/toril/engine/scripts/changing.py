"""Scripts that change one job and leave it where it is."""

from __future__ import annotations

from toril.engine.connection import Call
from toril.engine.keys import QueueKeys
from toril.engine.scripts.shared import is_there


def update_progress(keys: QueueKeys, job_id: str, progress_json: str) -> Call[bool]:
    """Store progress; answers whether the job is there."""
    return Call("update_progress", [keys.job(job_id), keys.events, keys.meta], [job_id, progress_json], is_there)


def add_log(keys: QueueKeys, job_id: str, row: str, keep: int | None) -> Call[int]:
    """Append a row to the job's log; answers how many rows there are, −1 without a job."""
    return Call("add_log", [keys.job(job_id), keys.logs(job_id)], [row, "" if keep is None else keep], int)


def update_data(keys: QueueKeys, job_id: str, data_json: str) -> Call[bool]:
    """Replace the job's data; answers whether the job is there."""
    return Call("update_data", [keys.job(job_id)], [data_json], is_there)
