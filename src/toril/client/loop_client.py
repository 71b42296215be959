"""What one event loop uses of a queue: connections that are opened when first used, and closed with the loop."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

from toril.client.results import ResultWaiter

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.engine.events import QueueEvents

_ATTRIBUTE = "_toril_clients"
"""Where a loop keeps its clients, by queue. A table of ours would keep loops, for a connection holds its loop."""


class LoopClient:
    """Everything of one queue that belongs to one event loop. Holds no `QueueClient`, which may go before the loop."""

    def __init__(self, client: QueueClient) -> None:
        """Only while the loop runs."""
        from toril.engine.producer import Producer
        from toril.engine.redis.connection import AsyncConnection

        settings, keys, layout = client.settings, client.keys, client.paused_layout
        self.connection = AsyncConnection(settings)
        self.producer = Producer(self.connection, keys, layout=layout, defaults=client.known_defaults)
        self.waiter = ResultWaiter(settings, self.connection, keys)
        self._settings = settings
        self._keys = keys
        self._events: weakref.WeakSet[QueueEvents] = weakref.WeakSet()
        self._guard = _close_at_the_end(self._events, self.waiter.close, self.connection.close)
        with contextlib.suppress(StopIteration):
            # As far as its `yield`: from now on the loop knows it.
            self._guard.__anext__().send(None)

    def events(self, after: str) -> QueueEvents:
        from toril.engine.events import QueueEvents

        opened = QueueEvents(self._settings, self.connection, self._keys, after, owner=self)
        self._events.add(opened)
        return opened

    async def close(self) -> None:
        await self._guard.aclose()


def of(client: QueueClient) -> LoopClient:
    """The running loop's connections of a queue's client."""
    loop = asyncio.get_running_loop()
    known: weakref.WeakKeyDictionary[QueueClient, LoopClient] | None = getattr(loop, _ATTRIBUTE, None)
    if known is None:
        from toril.engine.redis import protocol

        protocol.abandon_closed_loops()
        known = weakref.WeakKeyDictionary()
        setattr(loop, _ATTRIBUTE, known)
    found = known.get(client)
    if found is None:
        found = known[client] = LoopClient(client)
    return found


async def close(client: QueueClient) -> None:
    """Close the running loop's connections of a queue's client, if there are any."""
    known: weakref.WeakKeyDictionary[QueueClient, LoopClient] | None
    known = getattr(asyncio.get_running_loop(), _ATTRIBUTE, None)
    found = known.pop(client, None) if known else None
    if found is not None:
        await found.close()


async def _close_at_the_end(
    events: weakref.WeakSet[QueueEvents], *closers: Callable[[], Awaitable[None]]
) -> AsyncGenerator[None, None]:
    """Close everything when this generator is closed.

    `asyncio.run` closes a loop's generators before the loop itself (`shutdown_asyncgens`). A loop also closes a
    generator without references, which is left when its queue is gone.
    """
    try:
        yield
    finally:
        for opened in list(events):
            await opened.close()
        for close_one in closers:
            await close_one()
