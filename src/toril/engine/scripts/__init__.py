"""One function for each Lua script: its signature is the script's contract. Pure: makes `Call`s, runs nothing.

Name, keys and arguments of a function equal the header of `lua/<name>.lua`; a test compares them. Times are Unix
milliseconds and lengths milliseconds. A module a subject; everything is used as `scripts.<name>`.
"""

from toril.engine.scripts.administration import (
    add_log,
    change_delay,
    change_priority,
    leave_parent,
    obliterate,
    pause,
    promote_job,
    remove_children,
    remove_job,
    requeue_jobs,
    resume,
    retry_job,
    set_limits,
    sweep_jobs,
    update_data,
    update_progress,
)
from toril.engine.scripts.getters import count_priorities, read_children, read_job, read_jobs, read_signals
from toril.engine.scripts.producer import add_flow, add_jobs
from toril.engine.scripts.queue_defaults import write_defaults
from toril.engine.scripts.schedulers import (
    CHANGED,
    MADE,
    THERE_ALREADY,
    SchedulersRead,
    Upsert,
    advance_schedulers,
    promote_due,
    read_schedulers,
    remove_scheduler,
    upsert_scheduler,
)
from toril.engine.scripts.shared import Layout
from toril.engine.scripts.worker import (
    FinishReply,
    Limiter,
    Taken,
    Taker,
    adopt_jobs,
    extend_locks,
    finish_and_take,
    recover_stalled,
    take_jobs,
)

__all__ = [
    "CHANGED",
    "MADE",
    "THERE_ALREADY",
    "FinishReply",
    "Layout",
    "Limiter",
    "SchedulersRead",
    "Taken",
    "Taker",
    "Upsert",
    "add_flow",
    "add_jobs",
    "add_log",
    "adopt_jobs",
    "advance_schedulers",
    "change_delay",
    "change_priority",
    "count_priorities",
    "extend_locks",
    "finish_and_take",
    "leave_parent",
    "obliterate",
    "pause",
    "promote_due",
    "promote_job",
    "read_children",
    "read_job",
    "read_jobs",
    "read_schedulers",
    "read_signals",
    "recover_stalled",
    "remove_children",
    "remove_job",
    "remove_scheduler",
    "requeue_jobs",
    "resume",
    "retry_job",
    "set_limits",
    "sweep_jobs",
    "take_jobs",
    "update_data",
    "update_progress",
    "upsert_scheduler",
    "write_defaults",
]
