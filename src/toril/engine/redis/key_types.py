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
    from toril.engine.operations import Operation

TYPES = {
    "wait": "list", "paused": "list", "active": "list", "prioritized": "zset", "delayed": "zset", "completed": "zset",
    "failed": "zset", "waiting-children": "zset", "marker": "zset", "repeat": "zset", "meta": "hash",
    "events": "stream", "stalled": "set", "id": "string", "pc": "string", "limiter": "string",
    "stalled-check": "string",
}  # fmt: skip


async def find_wrong_key(connection: AsyncConnection, keys: QueueKeys) -> errors.WrongKeyTypeError | None:
    """What is wrong with the queue's own keys, naming the first; None = nothing. Raises as the connection does."""
    return _named(keys, await asyncio.gather(*(connection.command("TYPE", keys.base + part) for part in TYPES)))


def name_wrong_key(keys: QueueKeys, problem: errors.WrongKeyTypeError) -> Operation[errors.WrongKeyTypeError]:
    """Return the same error with the key that it is about; as it was when Redis cannot be asked or all keys are right.

    Redis: TYPE of each key in `TYPES`.
    """
    types = []
    try:
        for part in TYPES:
            types.append((yield ("TYPE", keys.base + part)))  # noqa: PERF401 - a comprehension cannot yield
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
