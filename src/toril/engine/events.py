"""Reads a queue's event stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from toril.engine.connection import AsyncConnection, BlockingConnection
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


async def position_now(connection: AsyncConnection) -> str:
    """A place in every stream of this server that lies before all events told after this call. Redis: TIME."""
    seconds, microseconds = await connection.command("TIME")
    return f"{int(seconds) * 1000 + int(microseconds) // 1000 - 1}-0"


async def find_end(connection: AsyncConnection, keys: QueueKeys, job_id: str, *, since_ms: int) -> QueueEvent | None:
    """Find the event that tells how a job ended, among those after `since_ms` that are still there; None = none.

    For jobs that are not kept. Redis: XRANGE in pages of 1000; the stream holds some 10000 entries.
    """
    position = str(max(0, since_ms))
    while True:
        page = await connection.command("XRANGE", keys.events, position, "+", "COUNT", 1000)
        for entry_id, flat in page:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if fields.get(b"jobId") == job_id.encode() and fields.get(b"event") in (b"completed", b"failed"):
                texts = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
                return QueueEvent(entry_id.decode(), texts.pop("event"), texts.pop("jobId"), texts)
        if len(page) < 1000:
            return None
        position = f"({page[-1][0].decode()}"
