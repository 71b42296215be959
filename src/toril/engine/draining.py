"""Flags of workers that are to be removed and take nothing more: the operator writes them, every take reads them."""

from __future__ import annotations

from collections.abc import Sequence

from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection

FLAG_MS = 60_000
"""Flags that are not renewed for so long end, so that they end with their operator."""


async def flag(
    connection: AsyncConnection, keys: QueueKeys, names: Sequence[str], *, lifetime_ms: int = FLAG_MS
) -> None:
    """Flag the workers of these names, or renew their flags: they take nothing more and end what they run.

    A worker sees its flag with its next take, which brings nothing then. From there on it looks every two seconds, and
    takes again when its flag is gone.

    Args:
        lifetime_ms: from now on; of all flags of the queue, renewed ones or not.

    Redis: `flag_workers`, one call; writes `toril:draining` (hash: name → since when, Unix milliseconds).
    """
    if names:
        await connection.run(scripts.flag_workers(keys, names, lifetime_ms))


async def unflag(connection: AsyncConnection, keys: QueueKeys, names: Sequence[str]) -> None:
    """Let the workers of these names take jobs again.

    Redis: HDEL on `toril:draining`.
    """
    if names:
        await connection.command("HDEL", keys.draining, *names)


async def read_flags(connection: AsyncConnection, keys: QueueKeys) -> dict[str, int]:
    """The flags of a queue: worker's name → since when, Unix milliseconds.

    Redis: HGETALL on `toril:draining`.
    """
    flat = await connection.command("HGETALL", keys.draining)
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(errors="surrogateescape"): int(since) for name, since in pairs}
