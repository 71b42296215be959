"""Reads a queue's event stream."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from toril import errors
from toril.engine import operations
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.redis import key_types
from toril.engine.redis.connection import AsyncConnection, BlockingConnection
from toril.engine.redis.settings import RedisSettings
from toril.jobs import codec

RECONNECT_PAUSES_SECONDS = (0.1, 0.3, 1.0, 3.0)
"""Pauses before further tries to reach Redis again; the last one is repeated."""

_JSON_FIELDS = {"completed": "returnvalue", "progress": "data"}


@dataclass(frozen=True, slots=True)
class QueueEvent:
    """One entry of the stream."""

    id: str
    """Its place in the stream: go on after it with `queue.events(after=event.id)`."""
    name: str
    """What happened, in BullMQ's words (`added`, `waiting`, `completed`, `failed` …) or a name of one's own."""
    job_id: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    """The other fields as they are stored, under BullMQ's names."""

    @classmethod
    def of_entry(cls, entry_id: str, fields: Mapping[str, str]) -> QueueEvent:
        texts = {name: value for name, value in fields.items() if name not in ("event", "jobId")}
        return cls(entry_id, fields.get("event", ""), fields.get("jobId"), texts)

    @property
    def fields(self) -> dict[str, Any]:
        """The other fields: `returnvalue` of completed and `data` of progress decoded, `delay` of delayed as a number
        (when it is due, Unix milliseconds), the rest text. One that cannot be read is None; `texts` has it."""
        parsed: dict[str, Any] = dict(self.texts)
        name = _JSON_FIELDS.get(self.name)
        if name is not None:
            parsed[name] = _decoded(self.texts.get(name))
        elif self.name == "delayed":
            parsed["delay"] = _number(self.texts.get("delay"))
        return parsed


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
                yield QueueEvent.of_entry(entry_id, fields)


class QueueEvents:
    """A queue's events as they come, for `async for`. Belongs to one event loop, and to one task at a time.

    Its connection has the name by which BullMQ's `getQueueEvents()` lists it. When that connection fails it goes
    on after the last event it has passed on: none is lost as long as the stream, which is capped, still holds it.
    """

    def __init__(
        self,
        settings: RedisSettings,
        connection: AsyncConnection,
        keys: QueueKeys,
        after: str = "$",
        *,
        owner: object = None,
    ) -> None:
        """Args:
        connection: for finding the end of the stream.
        after: id of the event to go on after; `$` = only new ones, `0` = all that are still there.
        owner: closes `connection` when no reference to the owner is left.
        """
        self._owner = owner
        self._connection = connection
        self._blocking = BlockingConnection(settings, client_name=keys.client_name(":qe"))
        self._keys = keys
        self.last_id = after
        """The last event passed on; `$` until the place in the stream is fixed."""
        self._pending: deque[tuple[str, dict[str, str]]] = deque()
        self._is_closed = False

    async def start(self) -> None:
        """Fix the place in the stream: every event written after this call is passed on. Iterating does it too.

        Raises:
            RedisError: Redis cannot be reached.
        """
        if self.last_id == "$":
            newest = await self._connection.command("XREVRANGE", self._keys.events, "+", "-", "COUNT", 1)
            self.last_id = newest[0][0].decode() if newest else "0-0"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> QueueEvent:
        """The next event, whenever it comes.

        Raises:
            StopAsyncIteration: closed.
            RedisError: Redis could not be reached at the start, or the queue's stream is no stream.
        """
        await self.start()
        failures = 0
        while not self._pending and not self._is_closed:
            try:
                found = await self._blocking.read_stream({self._keys.events: self.last_id}, block_ms=10_000, count=1000)
            except errors.WrongKeyTypeError as problem:
                named = key_types.name_wrong_key(self._keys, problem)
                raise await operations.execute(self._connection, named) from None
            except errors.RedisError as problem:
                if not problem.temporary:
                    raise
                await asyncio.sleep(RECONNECT_PAUSES_SECONDS[min(failures, len(RECONNECT_PAUSES_SECONDS) - 1)])
                failures += 1
            else:
                self._pending.extend(entry for _, entries in found for entry in entries)
        if self._is_closed:
            raise StopAsyncIteration
        event = QueueEvent.of_entry(*self._pending.popleft())
        self.last_id = event.id
        return event

    async def close(self) -> None:
        """End the iteration, also one that is waiting."""
        self._is_closed = True
        await self._blocking.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def position_now(connection: AsyncConnection) -> str:
    """A place in every stream of this server that lies before all events written after this call. Redis: TIME."""
    seconds, microseconds = await connection.command("TIME")
    return f"{int(seconds) * 1000 + int(microseconds) // 1000 - 1}-0"


def find_end(keys: QueueKeys, job_id: str, *, since_ms: int) -> Operation[QueueEvent | None]:
    """Find a job's `completed` or `failed` event among the stored events after `since_ms`; None = no such event.

    For jobs that are not kept. Redis: XRANGE in pages of 1000; the stream holds some 10000 entries.
    """
    position, id_bytes = str(max(0, since_ms)), job_id.encode(errors="surrogateescape")
    while True:
        page = yield ("XRANGE", keys.events, position, "+", "COUNT", 1000)
        for entry_id, flat in page:
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if fields.get(b"jobId") == id_bytes and fields.get(b"event") in (b"completed", b"failed"):
                texts = {
                    name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()
                }
                return QueueEvent.of_entry(entry_id.decode(), texts)
        if len(page) < 1000:
            return None
        position = f"({page[-1][0].decode()}"


def _decoded(text: str | None) -> Any:
    try:
        return codec.decode(text) if text else None
    except errors.InvalidPayloadError:
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() else number
