"""Carrying job schedulers on, for queues whose workers are away, or did not come to it."""

from __future__ import annotations

from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import AsyncConnection
from toril.engine.schedulers import Advanced, JobSchedulers


async def run_once(
    connection: AsyncConnection,
    keys: QueueKeys,
    *,
    also_waiting: bool = False,
    catch_up_ms: int = 0,
    layout: scripts.Layout = "6",
) -> Advanced:
    """Make the next jobs of all schedulers whose slot has come: see `JobSchedulers.advance_due`.

    Any number of processes may do so at once, beside workers of Toril and of BullMQ, who carry a scheduler on when they
    take its job: each slot gets one job.
    """
    schedulers = JobSchedulers(connection, keys, layout=layout)
    return await schedulers.advance_due(also_waiting=also_waiting, catch_up_ms=catch_up_ms)
