"""`queue.sync`: a queue for code without an event loop. Written by hand: it joins what `tools/sync_twins.py` writes."""

from __future__ import annotations

import functools
from types import TracebackType
from typing import TYPE_CHECKING, Self

from toril.client.sync.adding import SyncAddMethods
from toril.client.sync.control import SyncControlMethods
from toril.client.sync.limits import SyncLimitMethods

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.sync.schedulers import SyncSchedulers


class SyncQueue(SyncAddMethods, SyncControlMethods, SyncLimitMethods):
    """A queue for code without an event loop, over one blocking connection that threads share in turn.

    It has every method of `Queue` that sends a request; `events` needs an event loop.
    """

    def __init__(self, client: QueueClient) -> None:
        self.client = client

    @functools.cached_property
    def schedulers(self) -> SyncSchedulers:
        """Jobs on a calendar, or at an interval."""
        from toril.client.sync.schedulers import SyncSchedulers

        return SyncSchedulers(self.client)

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self.client.close_sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SyncQueue {self.client.name}>"
