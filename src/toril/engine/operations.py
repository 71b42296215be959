"""Work of several calls, said once for both kinds of connection: a generator yields what to send and gets the reply."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from toril.engine.redis.connection import AsyncConnection, Call, Part

if TYPE_CHECKING:
    from toril.engine.redis.sync_connection import SyncConnection

R = TypeVar("R")
Steps = Generator[Call[Any] | tuple[Part, ...], Any, R]
"""Yields a script's `Call` or a plain command's parts; returns what the caller gets. Each step is one request."""


async def walk(connection: AsyncConnection, steps: Steps[R]) -> R:
    """Send the steps in turn. Raises as `AsyncConnection.run` does; the steps before have then been carried out."""
    reply: Any = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result
        reply = await (connection.run(step) if isinstance(step, Call) else connection.command(*step))


def walk_sync(connection: SyncConnection, steps: Steps[R]) -> R:
    """As `walk`, without an event loop."""
    reply: Any = None
    while True:
        try:
            step = steps.send(reply)
        except StopIteration as end:
            result: R = end.value
            return result
        reply = connection.run(step) if isinstance(step, Call) else connection.command(*step)
