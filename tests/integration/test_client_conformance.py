"""The same commands over redis-py and over our two clients have the same replies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

from toril import errors
from toril.engine.redis.connection import AsyncConnection, Part
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.sync_connection import SyncConnection

COMMANDS: tuple[tuple[Part, ...], ...] = (
    ("PING",),
    ("ECHO", ""),
    ("SET", "text", "grüße ✓ 🚀"),
    ("GET", "text"),
    ("GET", "none"),
    ("SET", "bytes", bytes(range(256))),
    ("GET", b"bytes"),
    ("SET", "line", "a\r\nb\r\n$5\r\n"),
    ("GET", "line"),
    ("SET", "large", b"x" * 3_000_000),
    ("GET", "large"),
    ("INCRBY", "number", 2**62),
    ("INCRBY", "number", -(2**62) - 7),
    ("INCRBYFLOAT", "float", 0.1),
    ("RPUSH", "list", *range(2000)),
    ("LRANGE", "list", 0, -1),
    ("LRANGE", "none", 0, -1),
    ("HSET", "hash", "a", 1, "b", "", "c", 1.5),
    ("HGETALL", "hash"),
    ("HMGET", "hash", "a", "none", "b"),
    ("ZADD", "zset", 1, "one", 2.5, "two"),
    ("ZRANGE", "zset", 0, -1, "WITHSCORES"),
    ("ZSCORE", "zset", "two"),
    ("XADD", "stream", "1-1", "event", "added"),
    ("XRANGE", "stream", "-", "+"),
    ("XREAD", "STREAMS", "stream", "1-1"),
    ("EVAL", "return {1, 'two', {3, {}}, false, redis.status_reply('FINE'), {4, nil, 5}}", 0),
    ("EVAL", "return {KEYS, ARGV}", 1, "key", "argument"),
    ("EVAL", "return 3.99", 0),
    ("EVAL", "return nil", 0),
    ("BZPOPMIN", "none", "0.001"),
    ("TYPE", "stream"),
    ("MULTI",),
    ("INCR", "list"),
    ("GET", "text"),
    ("EXEC",),
    # Errors.
    ("INCR", "list"),
    ("NOSUCHCOMMAND", "x"),
    ("GET",),
    ("EVAL", "return redis.error_reply('MY own')", 0),
    ("EVALSHA", "0" * 40, 0),
    ("GET", "text"),
)


def plain(reply: Any) -> Any:
    """A reply in which errors are texts, so that they can be compared."""
    if isinstance(reply, list):
        return [plain(part) for part in reply]
    return "an error" if isinstance(reply, Exception) else reply


def by_redis_py(url: str) -> list[Any]:
    """Over a connection without redis-py's own conversions and repetitions."""
    client = redis.Redis.from_url(url, protocol=2)
    connection: Any = client.connection_pool.get_connection()
    replies = []
    try:
        for command in COMMANDS:
            connection.send_command(*command)
            try:
                replies.append(plain(connection.read_response(disable_decoding=True)))
            except redis.RedisError:
                replies.append("an error")
    finally:
        connection.disconnect()
        client.close()
    return replies


async def by_async_client(url: str, *, at_once: bool) -> list[Any]:
    connection = AsyncConnection(RedisSettings.from_url(url))
    try:
        if at_once:
            await connection.command("PING")
            return list(await asyncio.gather(*(asynchronous(connection, command) for command in COMMANDS)))
        return [await asynchronous(connection, command) for command in COMMANDS]
    finally:
        await connection.close()


async def asynchronous(connection: AsyncConnection, command: tuple[Part, ...]) -> Any:
    try:
        return plain(await connection.command(*command))
    except errors.RedisError:
        return "an error"


def by_sync_client(url: str) -> list[Any]:
    connection = SyncConnection(RedisSettings.from_url(url))
    replies = []
    for command in COMMANDS:
        try:
            replies.append(plain(connection.command(*command)))
        except errors.RedisError:
            replies.append("an error")
    connection.close()
    return replies


@pytest.mark.parametrize("client", ["one by one", "all at once", "synchronous"])
async def test_replies_are_those_that_redis_py_reads(redis_url: str, client: str) -> None:
    expected = await asyncio.to_thread(by_redis_py, redis_url)
    with redis.Redis.from_url(redis_url) as raw:
        raw.flushdb()
    if client == "synchronous":
        found = await asyncio.to_thread(by_sync_client, redis_url)
    else:
        found = await by_async_client(redis_url, at_once=client == "all at once")
    for command, ours, theirs in zip(COMMANDS, found, expected, strict=True):
        assert ours == theirs, command[:3]
    assert expected.count("an error") == 5
