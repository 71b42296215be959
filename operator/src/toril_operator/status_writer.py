"""Writes status, seldom: at once when a condition changed, numbers at most every five seconds, nothing when nothing
changed. Of several statuses of one object only the newest is written."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from toril import clock, errors, kube
from toril_operator import labels
from toril_operator.leadership import Leadership
from toril_operator.object_cache import Key
from toril_operator.work_queue import WorkQueue

Json = Mapping[str, Any]

NUMBERS_MS = 5000
"""Shortest time between two writes of one object that only change numbers or words."""
WRITES_PER_SECOND = 20
WRITERS = 2

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    uid: str
    wanted: Json
    written: Json
    """What the object's status is, as far as is known."""
    written_ms: int | None = None
    version: int = 0
    """Resource version of our last write."""


class StatusWriter:
    """Of one kind. Used on one event loop."""

    def __init__(
        self,
        client: kube.KubeClient,
        leadership: Leadership,
        on_written: Callable[[], None],
        *,
        resource: kube.Resource,
        kind: str,
    ) -> None:
        self._client = client
        self._resource = resource
        self._kind = kind
        self._on_written = on_written
        self._leadership = leadership
        self._entries: dict[Key, _Entry] = {}
        self._queue: WorkQueue[Key] = WorkQueue()
        self._next_slot_ms = 0

    def latest(self, key: Key, manifest: Json) -> Json:
        """The newest status of an object: the one that is about to be written, else its own."""
        entry = self._entries.get(key)
        if entry is None or entry.uid != manifest["metadata"]["uid"]:
            return manifest.get("status") or {}
        return entry.wanted

    def submit(self, key: Key, manifest: Json, status: Json) -> None:
        """Have a status written, as soon as it is worth it.

        Args:
            manifest: the object as last seen.
        """
        uid, version = manifest["metadata"]["uid"], int(manifest["metadata"].get("resourceVersion") or 0)
        entry = self._entries.get(key)
        if entry is None or entry.uid != uid:
            entry = self._entries[key] = _Entry(uid, status, manifest.get("status") or {})
        elif version > entry.version:
            entry.written = manifest.get("status") or {}
        entry.wanted = status
        if entry.wanted == entry.written:
            return
        if entry.written_ms is None or _headline(entry.wanted) != _headline(entry.written):
            self._queue.add(key)
        else:
            pause_ms = max(0, entry.written_ms + NUMBERS_MS - clock.monotonic_ms())
            self._queue.add_later(key, pause_ms / 1000)

    def forget(self, key: Key) -> None:
        self._entries.pop(key, None)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._queue.process_loop(self._write))

    async def flush(self) -> None:
        """Write what is still to be written, once."""
        for key in tuple(self._entries):
            await self._write(key)

    async def _write(self, key: Key) -> None:
        entry = self._entries.get(key)
        if entry is None or entry.wanted == entry.written or not self._leadership.is_leader():
            return
        await self._wait_for_slot()
        wanted = entry.wanted
        manifest = {
            "apiVersion": self._resource.api_version,
            "kind": self._kind,
            "metadata": {"namespace": key.namespace, "name": key.name, "uid": entry.uid},
            "status": wanted,
        }
        try:
            answer = await self._client.apply_status(self._resource, manifest, manager=labels.STATUS_MANAGER)
        except (errors.KubeNotFoundError, errors.KubeConflictError):
            # The object is gone, or another one has its name; its own status will come.
            self.forget(key)
        except errors.KubeError as problem:
            logger.warning("status of %s not written: %s", key, problem)
            self._queue.add_failed(key)
        else:
            self._on_written()
            self._queue.forget_failures(key)
            entry.written, entry.written_ms = wanted, clock.monotonic_ms()
            entry.version = int(answer["metadata"]["resourceVersion"])

    async def _wait_for_slot(self) -> None:
        now_ms = clock.monotonic_ms()
        slot_ms = max(now_ms, self._next_slot_ms)
        self._next_slot_ms = slot_ms + 1000 // WRITES_PER_SECOND
        await asyncio.sleep((slot_ms - now_ms) / 1000)


def _headline(status: Json) -> Any:
    """What is written at once when it changes."""
    conditions = status.get("conditions") or ()
    return status.get("observedGeneration"), sorted(
        (entry.get("type"), entry.get("status"), entry.get("reason"), entry.get("observedGeneration"))
        for entry in conditions
    )
