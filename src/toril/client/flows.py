"""Flows: jobs that run when others have completed. `flow(parent, children)` makes a tree, `enqueue` adds all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from toril.client import flow_operations
from toril.client.draft import Draft
from toril.client.flow_operations import FlowTree
from toril.client.handle import JobHandle

if TYPE_CHECKING:
    from toril.client.sync.flows import SyncFlow

R = TypeVar("R")


def flow(parent: Draft[R], children: Iterable[Draft[Any] | Flow[Any]]) -> Flow[R]:
    """A job and those it waits for, each in any queue on the same Redis, and each perhaps a flow of its own.

    ```python
    report = flow(summarize.draft("May"), [fetch.draft(1), flow(render.draft(2), [load.draft("logo")])])
    handle = await report.enqueue()
    ```

    The parent runs when all children have completed, and reads what they returned: `await job.children_values()`.
    What a child's final failure does is said by the child's option `on_failure`; without it the parent waits on.
    """
    return Flow(parent, [child if isinstance(child, Flow) else Flow(child) for child in children])


class Flow(FlowTree[R]):
    """A tree of jobs that is checked and ready, but not added yet. Made by `flow`."""

    async def enqueue(self) -> JobHandle[R]:
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
        (handle,) = await add_flows([self])
        return handle

    @property
    def sync(self) -> SyncFlow[R]:
        """The same for code without an event loop."""
        from toril.client.sync.flows import SyncFlow

        return SyncFlow(self.parent, self.children)


async def add_flows(flows: Sequence[FlowTree[Any]]) -> list[JobHandle[Any]]:
    """Add several flows in one step, all of them or none; returns the handles of their uppermost jobs, in order.

    Raises as `Flow.enqueue`.
    """
    if not flows:
        return []
    ids = await flows[0].parent.client.execute(flow_operations.add(flows))
    return [JobHandle(each.parent.client, job_id) for each, job_id in zip(flows, ids, strict=True)]
