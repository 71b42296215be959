"""An operation is one or several calls to Redis as a generator, the same for both kinds of connection.

The generator yields what to send and receives the reply. It does no I/O itself: `execute` or `execute_sync` does.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from toril import errors
from toril.engine.redis.connection import AsyncConnection, Call, Part

if TYPE_CHECKING:
    from toril.engine.redis.sync_connection import SyncConnection

R = TypeVar("R")
Operation = Generator[Call[Any] | tuple[Part, ...], Any, R]
"""Yields a script's `Call` or a plain command's parts; returns the caller's result. Each yield is one request."""


async def execute(connection: AsyncConnection, operation: Operation[R]) -> R:
    """Send the requests of an operation in turn and return its result.

    The operation may catch the RedisError of a request and go on.

    Raises:
        RedisError: as `AsyncConnection.run`; the requests before the failing one have been carried out.
    """
    reply, problem = None, None
    while True:
        try:
            request = operation.send(reply) if problem is None else operation.throw(problem)
        except StopIteration as end:
            result: R = end.value
            return result
        reply, problem = None, None
        try:
            reply = await (connection.run(request) if isinstance(request, Call) else connection.command(*request))
        except errors.RedisError as failure:
            problem = failure


def execute_sync(connection: SyncConnection, operation: Operation[R]) -> R:
    """Send the requests of an operation over a synchronous connection. Raises as `execute`."""
    reply, problem = None, None
    while True:
        try:
            request = operation.send(reply) if problem is None else operation.throw(problem)
        except StopIteration as end:
            result: R = end.value
            return result
        reply, problem = None, None
        try:
            reply = connection.run(request) if isinstance(request, Call) else connection.command(*request)
        except errors.RedisError as failure:
            problem = failure
