"""Connections to Redis, made here and nowhere else: async, blocking reads, and synchronous.

No connection repeats a command by itself. A call that was never sent raises `RedisUnavailableError`; one that was sent
and got no answer raises `UnknownOutcomeError`. A connection whose server answers that it is a replica is given up: its
name may lead to another server by now. Blocking reads have a connection of their own, without a read timeout
but with a watchdog and TCP keep-alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from toril import errors
from toril.engine import lua_loader
from toril.engine.redis import protocol, replies
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason

R = TypeVar("R")
Part = str | bytes | int | float

DEFAULT_TIMEOUT_SECONDS = 5.0


@dataclass(slots=True)
class Call(Generic[R]):
    """One run of one script: what to send, and how to read the reply. Made in `scripts.py`, run by a connection."""

    script: str
    keys: Sequence[str]
    args: Sequence[Part]
    parse: Callable[[Any], R]

    def pack(self, *, by_source: bool = False) -> bytes:
        """The bytes of `EVALSHA` (of `EVAL` with the source, for a server that does not know the script yet)."""
        script = lua_loader.load(self.script)
        head = ("EVAL", script.source) if by_source else ("EVALSHA", script.sha)
        return protocol.pack((*head, len(self.keys), *self.keys, *self.args))


class AsyncConnection:
    """A connection that many tasks share; commands are pipelined as they come. Connects when first used, and anew
    after a failure."""

    def __init__(
        self,
        settings: RedisSettings,
        *,
        client_name: str | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_reply_bytes: int = protocol.MAX_REPLY_BYTES,
    ) -> None:
        self.settings = settings
        self._client_name = client_name
        self._timeout_seconds = timeout_seconds
        self._max_reply_bytes = max_reply_bytes
        self._protocol: protocol.WireProtocol | None = None
        self._dialing = asyncio.Lock()
        self.connects = 0
        """How often a connection was made; more than once = one was lost in between."""
        self._connected_at = 0.0
        self._known: set[str] = set()

    @property
    def connected_seconds(self) -> float:
        """Age of the latest connection."""
        return asyncio.get_running_loop().time() - self._connected_at

    async def run(self, call: Call[R]) -> R:
        """Run one script and return its parsed reply.

        Raises:
            RedisUnavailableError: nothing was carried out.
            UnknownOutcomeError: it may have been carried out.
            WrongKeyTypeError: a key of the queue has a type that is not BullMQ's.
        """
        return await self.result(call, await self.start(call))

    @property
    def is_connected(self) -> bool:
        """Whether `send` can send now."""
        return self._protocol is not None and self._protocol.closed is None

    def send(self, call: Call[Any], answer: protocol.Answer, *, by_source: bool = False) -> None:
        """Send one script at once. Only while `is_connected`.

        Args:
            answer: is given the reply, or the problem, which `read_problem` reads.
        """
        assert self._protocol is not None
        self._protocol.send_for(answer, call.pack(by_source=by_source))

    def read_problem(self, problem: Exception) -> errors.RedisError | None:
        """What `run` would raise; None when Redis does not know the script: send it by its source."""
        if not isinstance(problem, replies.ServerReply):
            assert isinstance(problem, errors.RedisError)
            return problem
        return None if str(problem).startswith("NOSCRIPT") else self._refused(problem)

    async def start(self, call: Call[Any]) -> asyncio.Future[Any]:
        """Send one script, so that Redis works on it meanwhile, and return what `result` waits for.

        Raises:
            RedisUnavailableError: nothing was carried out.
        """
        wire = self._protocol
        if wire is None or wire.closed is not None:
            wire = await self._connect()
        return wire.send(call.pack())

    async def result(self, call: Call[R], started: asyncio.Future[Any]) -> R:
        """Wait for what was started, and return the parsed reply. Raises as `run` does."""
        try:
            reply = await started
        except replies.ServerReply as problem:
            if not str(problem).startswith("NOSCRIPT"):
                raise self._refused(problem) from None
            self._known.discard(call.script)
            reply = await self._request(call.pack(by_source=True))
        else:
            self._known.add(call.script)
        return call.parse(reply)

    def knows(self, call: Call[Any]) -> bool:
        """Whether the server knew the script when `result` last got a reply to one: calls sent now keep their order."""
        return call.script in self._known

    async def command(self, *parts: Part) -> Any:
        """Run one plain command and return its reply. Raises as `run` does."""
        return await self._request(protocol.pack(parts))

    async def close(self) -> None:
        wire, self._protocol = self._protocol, None
        if wire is not None:
            wire.abort(errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, "the connection was closed"))

    async def _request(self, packed: bytes) -> Any:
        wire = self._protocol
        if wire is None or wire.closed is not None:
            wire = await self._connect()
        try:
            return await wire.send(packed)
        except replies.ServerReply as problem:
            raise self._refused(problem) from None

    def _refused(self, problem: replies.ServerReply) -> errors.RedisError:
        error = replies.from_server(problem, self.settings.endpoint)
        if self._protocol is not None and error.reason is RedisReason.NOT_MASTER:
            self._protocol.abort(errors.RedisUnavailableError(error.reason, str(error)))
        return error

    async def _connect(self) -> protocol.WireProtocol:
        async with self._dialing:
            if self._protocol is None or self._protocol.closed is not None:
                self._protocol = await protocol.open_connection(
                    self.settings,
                    client_name=self._client_name,
                    timeout_seconds=self._timeout_seconds,
                    max_reply_bytes=self._max_reply_bytes,
                )
                self._protocol.watch(self._timeout_seconds)
                self.connects += 1
                self._connected_at = asyncio.get_running_loop().time()
                self._known.clear()
            return self._protocol


class BlockingConnection:
    """A connection for reads that wait; used by one task at a time. `interrupt()` ends a wait at once."""

    def __init__(
        self,
        settings: RedisSettings,
        *,
        client_name: str | None = None,
        connect_timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        max_reply_bytes: int = protocol.MAX_REPLY_BYTES,
    ) -> None:
        self.settings = settings
        self._client_name = client_name
        self._connect_timeout_seconds = connect_timeout_seconds
        self._max_reply_bytes = max_reply_bytes
        self._protocol: protocol.WireProtocol | None = None

    async def wait_marker(self, key: str, timeout_seconds: float) -> float | None:
        """Wait for a token in the marker and take it out.

        Returns:
            Its score (0 = look now, else Unix milliseconds), or None when none came in time or the wait was
            interrupted. Tokens are hints: one that is lost here costs nothing but time.

        Redis: BZPOPMIN on `marker`.
        """
        wait = max(timeout_seconds, 0.001)
        reply = await self._read(("BZPOPMIN", key, f"{wait:.3f}"), wait)
        return None if reply is None else float(reply[2])

    async def read_stream(
        self, positions: Mapping[str, str], *, block_ms: int, count: int | None = None
    ) -> list[tuple[str, list[tuple[str, dict[str, str]]]]]:
        """Wait for entries of streams after the given ids (`$` = only new ones).

        Returns:
            `[(key, [(id, {field: value})])]`, empty when nothing came in time or the wait was interrupted.

        Redis: XREAD BLOCK.
        """
        limit: tuple[Part, ...] = ("COUNT", count) if count else ()
        parts = ("XREAD", *limit, "BLOCK", max(block_ms, 1), "STREAMS", *positions.keys(), *positions.values())
        reply = await self._read(parts, block_ms / 1000)
        streams = []
        for key, entries in reply or []:
            decoded = [(entry_id.decode(), _fields(flat)) for entry_id, flat in entries]
            streams.append((key.decode(), decoded))
        return streams

    async def close(self) -> None:
        """End the wait that is going on; it answers None or []. The next wait connects anew."""
        wire, self._protocol = self._protocol, None
        if wire is not None:
            wire.abort(errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, "the wait was interrupted"))

    async def _read(self, parts: tuple[Part, ...], wait_seconds: float) -> Any:
        if self._protocol is None or self._protocol.closed is not None:
            self._protocol = await protocol.open_connection(
                self.settings,
                client_name=self._client_name,
                timeout_seconds=self._connect_timeout_seconds,
                max_reply_bytes=self._max_reply_bytes,
            )
        wire = self._protocol
        try:
            # The server answers after `wait_seconds`; one that does not is gone.
            async with asyncio.timeout(wait_seconds + 5):
                return await wire.send(protocol.pack(parts))
        except replies.ServerReply as problem:
            error = replies.from_server(problem, self.settings.endpoint)
            if error.reason is RedisReason.NOT_MASTER:
                await self.close()
            raise error from None
        except TimeoutError:
            await self.close()
            message = f"Redis {self.settings.endpoint}: no answer to a read that should have waited {wait_seconds:g} s"
            raise errors.RedisUnavailableError(RedisReason.TIMEOUT, message) from None
        except errors.UnknownOutcomeError as problem:
            if self._protocol is not wire:
                return None
            raise errors.RedisUnavailableError(problem.reason, str(problem)) from None
        except asyncio.CancelledError:
            # The reply to this read may still come: never to the next one.
            await self.close()
            raise


def _fields(flat: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode(errors="replace") for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
