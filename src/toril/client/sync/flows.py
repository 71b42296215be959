"""The twin of `toril.client.flows`, for code without an event loop. Written by tools/sync_twins.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from toril.client import flow_operations
from toril.client.flow_operations import FlowTree
from toril.client.sync.handle import SyncJobHandle

R = TypeVar("R")


class SyncFlow(FlowTree[R]):
    """A tree of jobs that is checked and ready, but not added yet. Made by `flow`."""

    def enqueue(self) -> SyncJobHandle[R]:
        """Add all jobs of the flow in one step, or none; returns the handle of the uppermost.

        A job whose id is there already is not added again: its parent waits for it, or has its value if it has
        completed.

        Raises:
            InvalidOptionError: a job has a deduplication, or a queue is on another Redis; nothing was added.
            ParentConflictError: a child is there already and belongs to another job; nothing was added.
            RedisUnavailableError: Redis cannot be reached; nothing was added.
            UnknownOutcomeError: the connection broke; all of it may have been added. Give the uppermost job an id to
                look for it.
        """
        (handle,) = add_flows_sync([self])
        return handle


def add_flows_sync(flows: Sequence[FlowTree[Any]]) -> list[SyncJobHandle[Any]]:
    """Add several flows in one step, all of them or none; returns the handles of their uppermost jobs, in order.

    Raises as `SyncFlow.enqueue`.
    """
    if not flows:
        return []
    ids = flows[0].parent.client.execute_sync(flow_operations.add(flows))
    return [SyncJobHandle(each.parent.client, job_id) for each, job_id in zip(flows, ids, strict=True)]
