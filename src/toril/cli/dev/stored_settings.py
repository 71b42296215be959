"""What the operator would write in Redis for a JobQueue: its pause, the defaults of its jobs, and its concurrency."""

from __future__ import annotations

from toril import clock
from toril.engine import operations, queue_defaults
from toril.engine.keys import QueueKeys
from toril.engine.limits import LimitedQueue
from toril.engine.producer import Producer
from toril.engine.queue_defaults import Owner
from toril.engine.redis.connection import AsyncConnection
from toril.jobs.signals import QueueSignals
from toril.specs.jobqueue import JobQueueSpec

SCOPE = "toril dev"
"""The owner of the defaults. All sessions share it, so that a session on the user's server replaces those of the last
one."""


async def write(connection: AsyncConnection, spec: JobQueueSpec, keys: QueueKeys) -> None:
    """Write pause, defaults and concurrency, at the start of a session."""
    if spec.is_suspended:
        await Producer(connection, keys, layout=spec.paused_layout.value).pause()
    # A manifest in a file has no generation: the latest write counts.
    written = queue_defaults.write(keys, _owner(spec), clock.now_ms(), spec.queue_defaults)
    await operations.execute(connection, written)
    if spec.global_concurrency is not None:
        await _limit(connection, spec, keys)


async def keep(connection: AsyncConnection, spec: JobQueueSpec, keys: QueueKeys, seen: QueueSignals) -> None:
    """Write back what the manifest names and another client has changed."""
    if spec.global_concurrency is not None and seen.global_concurrency != spec.global_concurrency:
        await _limit(connection, spec, keys)


async def remove(connection: AsyncConnection, spec: JobQueueSpec, keys: QueueKeys) -> None:
    """Remove the defaults, at the end of a session: the manifest no longer applies."""
    await operations.execute(connection, queue_defaults.delete(keys, _owner(spec)))


async def _limit(connection: AsyncConnection, spec: JobQueueSpec, keys: QueueKeys) -> None:
    limits = LimitedQueue(connection, keys, layout=spec.paused_layout.value)
    await limits.set(concurrency=spec.global_concurrency)


def _owner(spec: JobQueueSpec) -> Owner:
    return Owner(SCOPE, f"{spec.namespace}/{spec.name}")
