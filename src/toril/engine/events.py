"""Reads a queue's event stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from toril.engine.connection import BlockingConnection
from toril.engine.keys import QueueKeys


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """One entry of the stream: `event` is its kind, `fields` the rest as text (BullMQ's names)."""

    id: str
    event: str
    job_id: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


async def read_events(
    blocking: BlockingConnection, keys: QueueKeys, last_id: str = "$", *, block_ms: int = 10_000
) -> AsyncIterator[QueueEvent]:
    """Yield events after `last_id` (`$` = from now on), for ever. Keep the last event's id to go on after a break.

    Raises:
        RedisUnavailableError: the connection failed; start again with the last id.
    """
    while True:
        for _, entries in await blocking.read_stream({keys.events: last_id}, block_ms=block_ms, count=1000):
            for entry_id, fields in entries:
                last_id = entry_id
                rest = {name: value for name, value in fields.items() if name not in ("event", "jobId")}
                yield QueueEvent(entry_id, fields.get("event", ""), fields.get("jobId"), rest)
