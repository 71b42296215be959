"""Flags the workers in pods that are being deleted: from then on they take no jobs.

A worker ends at SIGTERM. A pod that is deleted while it starts may be sent that signal before there is a process to
hear it, and would work on for its whole grace period. The flag in Redis holds from the worker's first take on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from toril import clock, errors
from toril.engine import draining
from toril_operator.object_cache import Key, ObjectCache
from toril_operator.polling.pollers import Pollers

Json = Mapping[str, Any]

RENEWAL_MS = draining.FLAG_MS // 3
"""Flags are renewed so often while their pods stand."""
RETRY_MS = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Flagged:
    names: frozenset[str]
    renewed_ms: int


class Drainer:
    """Of all JobQueues, also of those that are gone while their pods are not. The caller has asked whether we lead."""

    def __init__(self, cache: ObjectCache, pollers: Pollers) -> None:
        self._cache = cache
        self._pollers = pollers
        self._flagged: dict[Key, _Flagged] = {}

    async def flag(self, key: Key) -> float | None:
        """Flag the workers of a JobQueue whose pods are being deleted, and take the flags of those that are gone away.

        Returns:
            Seconds after which this is to be called again; None = not before one of the pods changes.
        """
        names = terminating(self._cache.pods_of(key))
        known = self._flagged.get(key, _Flagged(frozenset(), 0))
        target = self._pollers.target(key)
        if target is None or not (names or known.names):
            self._flagged.pop(key, None)
            return None
        now_ms = clock.monotonic_ms()
        if names == known.names and now_ms - known.renewed_ms < RENEWAL_MS:
            return (known.renewed_ms + RENEWAL_MS - now_ms) / 1000
        try:
            connection = await self._pollers.connection(key)
            await draining.flag(connection, target.keys, sorted(names))
            await draining.unflag(connection, target.keys, sorted(known.names - names))
        except errors.RedisError as problem:
            logger.warning("%s: workers could not be flagged: %s", key, problem.reason)
            return RETRY_MS / 1000
        if new := names - known.names:
            logger.info("%s: being deleted, takes no more jobs: %s", key, ", ".join(sorted(new)))
        if not names:
            del self._flagged[key]
            return None
        self._flagged[key] = _Flagged(names, now_ms)
        return RENEWAL_MS / 1000

    def needs_queue(self, key: Key) -> bool:
        """Whether a JobQueue's Redis must stay known: there are pods that may be deleted, or flags to be taken away."""
        return key in self._flagged or bool(self._cache.pods_of(key))


def terminating(pods: Iterable[Json]) -> frozenset[str]:
    """Names of the pods that are being deleted and may still run. A worker has its pod's name."""
    return frozenset(
        pod["metadata"]["name"]
        for pod in pods
        if pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    )
