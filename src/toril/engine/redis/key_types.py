"""Which type each of a queue's keys has in BullMQ's layout, to name the one that has another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toril import errors
from toril.engine.keys import QueueKeys
from toril.engine.redis import replies
from toril.engine.redis.connection import AsyncConnection

if TYPE_CHECKING:
    from toril.engine.redis.sync_connection import SyncConnection

TYPES = {
    "wait": "list", "paused": "list", "active": "list", "prioritized": "zset", "delayed": "zset", "completed": "zset",
    "failed": "zset", "waiting-children": "zset", "marker": "zset", "repeat": "zset", "meta": "hash",
    "events": "stream", "stalled": "set", "id": "string", "pc": "string", "limiter": "string",
    "stalled-check": "string",
}  # fmt: skip


async def find_wrong_key(connection: AsyncConnection, keys: QueueKeys) -> errors.WrongKeyTypeError | None:
    """What is wrong with the queue's own keys, naming the first; None = nothing. Raises as the connection does."""
    return _named(keys, await asyncio.gather(*(connection.command("TYPE", keys.base + part) for part in TYPES)))


async def name_wrong_key(
    connection: AsyncConnection, keys: QueueKeys, problem: errors.WrongKeyTypeError
) -> errors.WrongKeyTypeError:
    """The same error, saying which key it is; as it was when Redis cannot be asked, or all keys are right by now."""
    try:
        return await find_wrong_key(connection, keys) or problem
    except errors.RedisError:
        return problem


def name_wrong_key_sync(
    connection: SyncConnection, keys: QueueKeys, problem: errors.WrongKeyTypeError
) -> errors.WrongKeyTypeError:
    """As `name_wrong_key`."""
    try:
        types = [connection.command("TYPE", keys.base + part) for part in TYPES]
    except errors.RedisError:
        return problem
    return _named(keys, types) or problem


def _named(keys: QueueKeys, types: Sequence[Any]) -> errors.WrongKeyTypeError | None:
    for (part, expected), found in zip(TYPES.items(), types, strict=True):
        name = replies.printable(found.decode(errors="replace") if isinstance(found, bytes) else found)
        if name not in ("none", expected):
            return errors.WrongKeyTypeError(
                f"{keys.base}{part} holds a {name}, where BullMQ's layout has a {expected}: rename or delete that key"
            )
    return None
