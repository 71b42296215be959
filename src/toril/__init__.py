"""Toril: job queues in BullMQ's format, for producers and workers in Python, and as Kubernetes objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toril.engine.events import QueueEvent, QueueEvents
    from toril.enqueue_options import Backoff, Deduplication, Keep, exponential, fixed, keep
    from toril.errors import (
        DelayJobError,
        JobFailedError,
        JobLockedError,
        JobNotFoundError,
        JobSignalError,
        JobStateError,
        ParentConflictError,
        ParentNotFoundError,
        RateLimitedError,
        RequeueJobError,
        ResultTimeoutError,
        TorilError,
        Unrecoverable,
        UnrecoverableError,
        WaitForChildrenError,
    )
    from toril.flows import Flow, add_flows, flow
    from toril.handle import JobHandle
    from toril.job_context import Job
    from toril.jobs.job import JobRecord, JobState
    from toril.queue import Queue
    from toril.queue_limits import RateLimit
    from toril.schedulers import Scheduler
    from toril.task import AsyncTask, Draft, Task

__version__ = "0.1.0"

_HOMES = {
    "toril.enqueue_options": ("Backoff", "Deduplication", "Keep", "exponential", "fixed", "keep"),
    "toril.errors": (
        "DelayJobError", "JobFailedError", "JobLockedError", "JobNotFoundError", "JobSignalError",
        "JobStateError", "ParentConflictError", "ParentNotFoundError", "RateLimitedError", "RequeueJobError",
        "ResultTimeoutError", "TorilError", "Unrecoverable", "UnrecoverableError", "WaitForChildrenError",
    ),
    "toril.engine.events": ("QueueEvent", "QueueEvents"),
    "toril.flows": ("Flow", "add_flows", "flow"),
    "toril.handle": ("JobHandle",),
    "toril.job_context": ("Job",),
    "toril.jobs.job": ("JobRecord", "JobState"),
    "toril.queue": ("Queue",),
    "toril.queue_limits": ("RateLimit",),
    "toril.schedulers": ("Scheduler",),
    "toril.task": ("AsyncTask", "Draft", "Task"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AsyncTask",
    "Backoff",
    "Deduplication",
    "DelayJobError",
    "Draft",
    "Flow",
    "Job",
    "JobFailedError",
    "JobHandle",
    "JobLockedError",
    "JobNotFoundError",
    "JobRecord",
    "JobSignalError",
    "JobState",
    "JobStateError",
    "Keep",
    "ParentConflictError",
    "ParentNotFoundError",
    "Queue",
    "QueueEvent",
    "QueueEvents",
    "RateLimit",
    "RateLimitedError",
    "RequeueJobError",
    "ResultTimeoutError",
    "Scheduler",
    "Task",
    "TorilError",
    "Unrecoverable",
    "UnrecoverableError",
    "WaitForChildrenError",
    "add_flows",
    "exponential",
    "fixed",
    "flow",
    "keep",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for: `import toril` alone costs next to nothing."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'toril' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value
