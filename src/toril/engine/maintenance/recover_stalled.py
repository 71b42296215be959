"""Recovery of jobs whose worker is gone."""

from __future__ import annotations

from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection
from toril.jobs.outcome import STALLED_INTERVAL_MS


async def run_once(
    connection: AsyncConnection,
    keys: QueueKeys,
    *,
    max_stalled_count: int = 1,
    interval_ms: int = STALLED_INTERVAL_MS,
    layout: scripts.Layout = "6",
) -> list[str]:
    """Make one stalled check and return the ids that were given back.

    Any number of processes may call this as often as they like: within an interval only the first does anything. A job
    that stalls more than `max_stalled_count` times is marked, and the next worker fails it without running it.
    """
    call = scripts.recover_stalled(keys, max_stalled_count=max_stalled_count, interval_ms=interval_ms, layout=layout)
    return await connection.run(call)
