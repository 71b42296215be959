"""Writes what manifests say about jobs (default options, largest size) to Redis, where every client of ours reads it.

A JobQueue that says nothing has no such key. The key goes with its JobQueue; what was left behind, while this operator
or Redis was away, is swept.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from toril import clock, errors, kube, periodic
from toril.engine import operations, queue_defaults
from toril.engine.keys import QueueKeys
from toril.engine.queue_defaults import Owner, Written
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings
from toril.jobs.queue_defaults import QueueDefaults
from toril.scaling.policy import Unknown
from toril_operator.jobqueue import plan as planning
from toril_operator.jobqueue.plan import Observed
from toril_operator.object_cache import Key, Kind, ObjectCache
from toril_operator.polling.pollers import Pollers

REPEAT_MS = 60_000
"""Defaults are written anew so often: Redis may have lost them."""
RETRY_MS = 5_000
SWEEP_SECONDS = 60.0
"""Between two looks at which servers are to be swept. Each is once after the start, and after a failed removal."""
LONGEST_SWEEP_SECONDS = 300.0
"""A million keys take seconds."""
CLUSTER_NAMESPACE = "kube-system"
"""Its uid is the cluster's: every cluster has it, and none without it lives on."""
NAMESPACES = kube.Resource("v1", "namespaces")

logger = logging.getLogger(__name__)


async def read_scope(client: kube.KubeClient, namespaces: Sequence[str]) -> str:
    """What tells this operator's objects from those of others on the same Redis; empty when it may not know.

    Args:
        namespaces: that it looks after; none = the whole cluster.

    Raises:
        KubeError: it cannot be asked for now.
    """
    try:
        found = [
            await client.get_cluster_object(NAMESPACES, name) for name in sorted(namespaces) or [CLUSTER_NAMESPACE]
        ]
    except errors.KubeForbiddenError as problem:
        logger.warning("defaults of queues that are left behind will not be swept: %s", problem)
        return ""
    uids = [each["metadata"]["uid"] for each in found]
    return uids[0] if len(uids) == 1 else hashlib.sha256(" ".join(uids).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class _Kept:
    uid: str
    generation: int
    due_ms: int | None
    """When to write again, monotonic clock; None = nothing is there to be lost."""


class DefaultsKeeper:
    """Of all JobQueues. The caller has asked whether we lead."""

    def __init__(self, cache: ObjectCache, pollers: Pollers) -> None:
        self.scope: str | None = None
        """See `read_scope`; set before the first turn."""
        self._cache = cache
        self._pollers = pollers
        self._kept: dict[Key, _Kept] = {}
        self._swept: set[RedisSettings] = set()

    async def keep(self, observed: Observed) -> float | None:
        """Let the queue's defaults be those of its manifest.

        Returns:
            Seconds after which this is to be called again; None = not before the JobQueue changes.
        """
        key, spec = observed.key, observed.spec
        target = self._pollers.target(key)
        # What cannot be read now leads here again when it can.
        if spec is None or planning.find_obstacle(observed) or isinstance(observed.signal, Unknown) or target is None:
            return None
        known, now_ms = self._kept.get(key), clock.monotonic_ms()
        if known is not None and (known.uid, known.generation) == (observed.uid, observed.generation):
            if known.due_ms is None:
                return None
            if now_ms < known.due_ms:
                return (known.due_ms - now_ms) / 1000
        try:
            connection = await self._pollers.connection(key)
            owner = Owner(self.scope or "", observed.uid)
            written = await self._write(connection, target.keys, owner, observed.generation, spec.queue_defaults)
        except errors.RedisError as problem:
            logger.debug("%s: the queue's defaults could not be written: %s", key, problem.reason)
            return RETRY_MS / 1000
        if written is Written.CHANGED:
            logger.info("%s: the queue's defaults are written", key)
        elif written is not Written.UNCHANGED:
            logger.warning("%s: the queue's defaults in Redis are %s, and left alone", key, written.value)
        pause_ms = None if spec.queue_defaults.is_empty else REPEAT_MS
        due_ms = None if pause_ms is None else now_ms + pause_ms
        self._kept[key] = _Kept(observed.uid, observed.generation, due_ms)
        return None if pause_ms is None else pause_ms / 1000

    async def remove(self, key: Key) -> None:
        """The JobQueue goes, and with it what we have written for it."""
        known, target = self._kept.pop(key, None), self._pollers.target(key)
        if known is None or known.due_ms is None or target is None:
            return
        try:
            connection = await self._pollers.connection(key)
            await operations.execute(connection, queue_defaults.delete(target.keys, Owner(self.scope or "", known.uid)))
        except errors.RedisError as problem:
            logger.warning("%s: the queue's defaults are left to a later sweep: %s", key, problem.reason)
            self._swept.discard(target.settings)

    async def sweep_loop(self) -> None:
        """Sweep each server once, and again after a removal that failed, until cancelled."""
        await periodic.repeat(periodic.Pace(SWEEP_SECONDS), self.run_once)

    async def run_once(self) -> None:
        """Sweep the servers that are due. Does nothing while `scope` is not known."""
        if self.scope:
            for settings in self._pollers.endpoints() - self._swept:
                await self._sweep(settings)

    async def _sweep(self, settings: RedisSettings) -> None:
        assert self.scope
        try:
            # The server is chosen by whoever wrote the JobQueue: nothing that it answers may end this loop.
            async with asyncio.timeout(LONGEST_SWEEP_SECONDS):
                connection = await self._pollers.connection_to(settings)
                removed = await operations.execute(connection, queue_defaults.sweep(self.scope, self._is_living))
        except (errors.RedisError, TimeoutError) as problem:
            logger.debug("Redis %s could not be swept: %s", settings.endpoint, problem)
            return
        except Exception as problem:
            logger.warning("Redis %s gave an answer of no sense: %s", settings.endpoint, type(problem).__name__)
            removed = []
        self._swept.add(settings)
        if removed:
            logger.info("Redis %s: defaults of queues without a JobQueue are removed: %s", settings.endpoint, removed)

    async def _write(
        self, connection: AsyncConnection, keys: QueueKeys, owner: Owner, generation: int, defaults: QueueDefaults
    ) -> Written:
        """Write, also over what an earlier JobQueue of ours has left there."""
        written = await operations.execute(connection, queue_defaults.write(keys, owner, generation, defaults))
        if written is not Written.ANOTHERS:
            return written
        stored = await connection.command("HMGET", keys.defaults, "ownerScope", "ownerUid")
        scope, uid = ((text or b"").decode(errors="replace") for text in stored)
        if uid != owner.uid and (scope != self.scope or self._is_living(uid)):
            return written
        await operations.execute(connection, queue_defaults.delete(keys, Owner(scope, uid)))
        return await operations.execute(connection, queue_defaults.write(keys, owner, generation, defaults))

    def _is_living(self, uid: str) -> bool:
        return any(
            manifest["metadata"].get("uid") == uid and not manifest["metadata"].get("deletionTimestamp")
            for _, manifest in self._cache.items(Kind.JOB_QUEUE)
        )
