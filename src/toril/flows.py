"""Flows: jobs that run when others have completed. `flow(parent, children)` makes a tree, `enqueue` adds all of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from toril import errors
from toril.handle import JobHandle
from toril.task import Draft

if TYPE_CHECKING:
    from toril.engine.flows import Node
    from toril.engine.operations import Operation
    from toril.queue import Queue

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


class Flow(Generic[R]):
    """A tree of jobs that is checked and ready, but not added yet. Made by `flow`."""

    def __init__(self, parent: Draft[R], children: Sequence[Flow[Any]] = ()) -> None:
        self.parent = parent
        self.children = children

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
        return SyncFlow(self)

    def to_node(self) -> Node:
        """The tree for the engine, each job with its own queue's defaults.

        Raises:
            InvalidPayloadError: data is larger than those allow.
        """
        from toril.engine.flows import Node

        job = self.parent.queue.known_defaults.current.apply(self.parent.job)
        return Node(self.parent.queue.keys, job, [child.to_node() for child in self.children])

    def __repr__(self) -> str:
        return f"<Flow {self.parent.job.name} of queue {self.parent.queue.name}, {len(self.children)} children>"


class SyncFlow(Generic[R]):
    """Adds a flow over a plain blocking connection."""

    __slots__ = ("_flow",)

    def __init__(self, flow: Flow[R]) -> None:
        self._flow = flow

    def enqueue(self) -> JobHandle[R]:
        """As `Flow.enqueue`, without an event loop."""
        queue = self._flow.parent.queue
        (job_id,) = queue.sync.walk(_adding([self._flow]))
        return JobHandle(queue, job_id)


async def add_flows(flows: Sequence[Flow[Any]]) -> list[JobHandle[Any]]:
    """Add several flows in one step, all of them or none; returns the handles of their uppermost jobs, in order.

    Raises as `Flow.enqueue`.
    """
    if not flows:
        return []
    ids = await flows[0].parent.queue.walk(_adding(flows))
    return [JobHandle(each.parent.queue, job_id) for each, job_id in zip(flows, ids, strict=True)]


def _adding(flows: Sequence[Flow[Any]]) -> Operation[list[str]]:
    from toril.engine import flows as engine_flows

    queue = flows[0].parent.queue
    queues: dict[Queue, None] = {}
    rest = list(flows)
    while rest:
        each = rest.pop()
        queues[each.parent.queue] = None
        rest += cast("list[Flow[Any]]", list(each.children))
    for other in queues:
        if other.settings != queue.settings:
            raise errors.InvalidOptionError(
                "children", f"queue {other.name!r} is on another Redis than the rest of the flow"
            )
    for each_queue in queues:
        yield from each_queue.known_defaults.refresh()
    return (yield from engine_flows.add([each.to_node() for each in flows], layout=queue.paused_layout))
