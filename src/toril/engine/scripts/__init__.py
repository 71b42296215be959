"""One function for each Lua script: its signature is the script's contract. Pure: makes `Call`s, runs nothing.

Name, keys and arguments of a function equal the header of `lua/<name>.lua`; a test compares them. Times are Unix
milliseconds and lengths milliseconds. A module a subject; everything is used as `scripts.<name>`.
"""

from toril.engine.scripts.adding import add_flow, add_jobs
from toril.engine.scripts.changing import add_log, update_data, update_progress
from toril.engine.scripts.reading import read_children, read_job, read_jobs, read_signals
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
from toril.engine.scripts.steering import pause, resume, set_limits
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
    "extend_locks",
    "finish_and_take",
    "pause",
    "promote_due",
    "read_children",
    "read_job",
    "read_jobs",
    "read_schedulers",
    "read_signals",
    "recover_stalled",
    "remove_scheduler",
    "resume",
    "set_limits",
    "take_jobs",
    "update_data",
    "update_progress",
    "upsert_scheduler",
]
