"""Toril: job queues in BullMQ's format, for producers and workers in Python, and as Kubernetes objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toril.client.draft import Draft
    from toril.client.flows import Flow, add_flows, flow
    from toril.client.handle import JobHandle
    from toril.client.operations import RateLimit
    from toril.client.options import Backoff, Deduplication, Keep, exponential, fixed, keep
    from toril.client.schedule_operations import Scheduler
    from toril.client.sync.flows import add_flows_sync
    from toril.client.sync.handle import SyncJobHandle
    from toril.engine.events import QueueEvent, QueueEvents
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
    from toril.jobs.job import JobRecord, JobState
    from toril.queue import Queue
    from toril.tasks.context import Job
    from toril.tasks.task import AsyncTask, Task

__version__ = "0.1.0"

_HOMES = {
    "toril.client.options": ("Backoff", "Deduplication", "Keep", "exponential", "fixed", "keep"),
    "toril.errors": (
        "DelayJobError", "JobFailedError", "JobLockedError", "JobNotFoundError", "JobSignalError",
        "JobStateError", "ParentConflictError", "ParentNotFoundError", "RateLimitedError", "RequeueJobError",
        "ResultTimeoutError", "TorilError", "Unrecoverable", "UnrecoverableError", "WaitForChildrenError",
    ),
    "toril.engine.events": ("QueueEvent", "QueueEvents"),
    "toril.client.flows": ("Flow", "add_flows", "flow"),
    "toril.client.handle": ("JobHandle",),
    "toril.client.draft": ("Draft",),
    "toril.client.sync.flows": ("add_flows_sync",),
    "toril.client.sync.handle": ("SyncJobHandle",),
    "toril.tasks.context": ("Job",),
    "toril.jobs.job": ("JobRecord", "JobState"),
    "toril.queue": ("Queue",),
    "toril.client.operations": ("RateLimit",),
    "toril.client.schedule_operations": ("Scheduler",),
    "toril.tasks.task": ("AsyncTask", "Task"),
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
    "SyncJobHandle",
    "Task",
    "TorilError",
    "Unrecoverable",
    "UnrecoverableError",
    "WaitForChildrenError",
    "add_flows",
    "add_flows_sync",
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
