"""A tree of jobs that is not added yet, and the operation that adds several of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from toril import errors
from toril.client.draft import Draft

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.engine.flows import Node
    from toril.engine.operations import Operation

R = TypeVar("R")


class FlowTree(Generic[R]):
    """A job and the jobs that it waits for."""

    def __init__(self, parent: Draft[R], children: Sequence[FlowTree[Any]] = ()) -> None:
        self.parent = parent
        self.children = children

    def to_node(self) -> Node:
        """The tree for the engine, each job with its own queue's defaults.

        Raises:
            InvalidPayloadError: a job's data is larger than the queue's defaults allow.
        """
        from toril.engine.flows import Node

        job = self.parent.client.known_defaults.current.apply(self.parent.job)
        return Node(self.parent.client.keys, job, [child.to_node() for child in self.children])

    def __repr__(self) -> str:
        words = f"{self.parent.job.name} of queue {self.parent.client.name}, {len(self.children)} children"
        return f"<{type(self).__name__} {words}>"


def add(flows: Sequence[FlowTree[Any]]) -> Operation[list[str]]:
    """Add several trees in one step; return the ids of their uppermost jobs, in order. Raises as `Flow.enqueue`."""
    from toril.engine import flows as engine_flows

    client = flows[0].parent.client
    clients: dict[QueueClient, None] = {}
    rest = list(flows)
    while rest:
        each = rest.pop()
        clients[each.parent.client] = None
        rest += each.children
    for other in clients:
        if other.settings != client.settings:
            raise errors.InvalidOptionError(
                "children", f"queue {other.name!r} is on another Redis than the rest of the flow"
            )
    for each_client in clients:
        yield from each_client.known_defaults.refresh()
    return (yield from engine_flows.add([each.to_node() for each in flows], layout=client.paused_layout))
