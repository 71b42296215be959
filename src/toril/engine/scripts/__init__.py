"""One function for each Lua script: its signature is the script's contract. Pure: makes `Call`s, runs nothing.

Name, keys and arguments of a function equal the header of `lua/<name>.lua`; a test compares them. Times are Unix
milliseconds and lengths milliseconds. A module a subject; everything is used as `scripts.<name>`.
"""

from toril.engine.scripts.adding import add_flow, add_jobs
from toril.engine.scripts.changing import (
    add_log,
    change_delay,
    change_priority,
    leave_parent,
    promote_job,
    remove_children,
    remove_job,
    retry_job,
    update_data,
    update_progress,
)
from toril.engine.scripts.reading import count_priorities, read_children, read_job, read_jobs, read_signals
from toril.engine.scripts.scheduling import (
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
from toril.engine.scripts.steering import obliterate, pause, requeue_jobs, resume, set_limits, sweep_jobs
from toril.engine.scripts.working import (
    Finish,
    FinishReply,
    Limiter,
    Taken,
    TakenJob,
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
    "Finish",
    "FinishReply",
    "Layout",
    "Limiter",
    "SchedulersRead",
    "Taken",
    "TakenJob",
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
]
