"""Writes Kubernetes Events about changes: few and short. A failure to write one is logged and has no other effect."""

from __future__ import annotations

import asyncio
import datetime
import logging
import uuid
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from toril import clock, errors, kube
from toril.specs.jobqueue import API_VERSION
from toril_operator.leadership import Leadership
from toril_operator.object_cache import Key, Kind

SAME_MS = 60_000
"""Shortest time between two Events of one object with the same reason."""
MAX_WAITING = 100
"""Events that wait to be written; further ones are dropped."""
MAX_NOTE_BYTES = 1024
"""The API server counts bytes, not characters."""
MAX_NAME = 253
"""Of an event's own name; the name of its object may have as many characters."""
MAX_INSTANCE_BYTES = 128
CONTROLLER = "toril.dev/operator"

logger = logging.getLogger(__name__)


class EventReason(StrEnum):
    """The reasons of all Events."""

    SCALED_UP = "ScaledUp"
    """The Deployment's replicas were raised."""
    SCALED_DOWN = "ScaledDown"
    """The Deployment's replicas were lowered."""
    REDIS_UNREACHABLE = "RedisUnreachable"
    """The queue cannot be read any more; the note has the cause."""
    REDIS_RECOVERED = "RedisRecovered"
    """The queue can be read again."""
    CONCURRENCY_RESTORED = "ConcurrencyRestored"
    """Another client had changed the queue's concurrency; the operator wrote the manifest's value back."""
    CLEANUP_ABANDONED = "CleanupAbandoned"
    """The job scheduler of a deleted CronJobSchedule could not be removed from Redis."""

    @property
    def type(self) -> str:
        return "Warning" if self in _WARNINGS else "Normal"


_WARNINGS = frozenset({EventReason.REDIS_UNREACHABLE, EventReason.CONCURRENCY_RESTORED, EventReason.CLEANUP_ABANDONED})


class EventRecorder:
    """Used on one event loop."""

    def __init__(self, client: kube.KubeClient, leadership: Leadership, instance: str) -> None:
        self._client = client
        self._leadership = leadership
        self._instance = instance
        self._emitted_ms: dict[tuple[str, EventReason], int] = {}
        self._waiting: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(MAX_WAITING)

    def emit(self, kind: Kind, key: Key, uid: str, reason: EventReason, note: str) -> None:
        """Have an event written, unless the same was told of the same object within a minute."""
        now_ms = clock.monotonic_ms()
        self._emitted_ms = {told: when for told, when in self._emitted_ms.items() if now_ms - when < SAME_MS}
        if (uid, reason) in self._emitted_ms or self._waiting.full():
            return
        self._emitted_ms[uid, reason] = now_ms
        self._waiting.put_nowait(self._event(kind, key, uid, reason, note))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            event = await self._waiting.get()
            if not self._leadership.is_leader():
                continue
            try:
                await self._client.create(kube.EVENTS, event)
            except errors.KubeError as problem:
                logger.warning("event not written: %s", problem)
            await asyncio.sleep(0.1)

    def _event(self, kind: Kind, key: Key, uid: str, reason: EventReason, note: str) -> Mapping[str, Any]:
        now = datetime.datetime.fromtimestamp(clock.now_ms() / 1000, datetime.UTC)
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"namespace": key.namespace, "name": event_name(key.name, uuid.uuid4().hex[:16])},
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": CONTROLLER,
            "reportingInstance": shorten(self._instance, MAX_INSTANCE_BYTES),
            "action": str(reason),
            "reason": str(reason),
            "type": reason.type,
            "note": shorten(note, MAX_NOTE_BYTES),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": str(kind),
                "namespace": key.namespace,
                "name": key.name,
                "uid": uid,
            },
        }


def event_name(object_name: str, suffix: str) -> str:
    """`<object>.<suffix>`, with the object's name cut where both would be too long for a name."""
    # A cut may not end in `.` or `-`: each part of a name ends in a letter or a digit.
    return f"{object_name[: MAX_NAME - 1 - len(suffix)].rstrip('.-')}.{suffix}"


def shorten(text: str, most_bytes: int) -> str:
    """The text in at most so many bytes of UTF-8, cut between characters; a cut text ends in `…`."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= most_bytes:
        return encoded.decode()
    end = "…"
    return encoded[: most_bytes - len(end.encode())].decode(errors="ignore") + end
