"""Work of several calls, said once for both kinds of connection: a generator yields what to send and gets the reply."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from toril import errors
from toril.engine.redis.connection import AsyncConnection, Call, Part

if TYPE_CHECKING:
    from toril.engine.redis.sync_connection import SyncConnection

R = TypeVar("R")
Steps = Generator[Call[Any] | tuple[Part, ...], Any, R]
"""Yields a script's `Call` or a plain command's parts; returns what the caller gets. Each step is one request."""


async def walk(connection: AsyncConnection, steps: Steps[R]) -> R:
    """Send the steps in turn. Raises as `AsyncConnection.run` does; the steps before have then been carried out.

    The steps may catch the RedisError of one of them, and go on.
    """
    reply, problem = None, None
    while True:
        try:
            step = steps.send(reply) if problem is None else steps.throw(problem)
        except StopIteration as end:
            result: R = end.value
            return result
        reply, problem = None, None
        try:
            reply = await (connection.run(step) if isinstance(step, Call) else connection.command(*step))
        except errors.RedisError as failure:
            problem = failure


def walk_sync(connection: SyncConnection, steps: Steps[R]) -> R:
    """As `walk`, without an event loop."""
    reply, problem = None, None
    while True:
        try:
            step = steps.send(reply) if problem is None else steps.throw(problem)
        except StopIteration as end:
            result: R = end.value
            return result
        reply, problem = None, None
        try:
            reply = connection.run(step) if isinstance(step, Call) else connection.command(*step)
        except errors.RedisError as failure:
            problem = failure
