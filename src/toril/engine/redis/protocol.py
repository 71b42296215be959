"""One connection to Redis on asyncio: write commands, hand out replies in order. Nothing is ever sent twice.

Made of hiredis and an asyncio transport, without the layers of a pool client: a call costs its bytes and one future.
Many callers share a connection; their commands are pipelined as they come. What is deliberately missing is any retry:
a command whose reply was lost may have run, and only the caller knows whether it may run again.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import hiredis

from toril import errors
from toril.engine.redis import greeting, replies, stranger
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason

logger = logging.getLogger(__name__)

NOTHING = object()
MAX_REPLY_BYTES = 256 * 1024 * 1024
"""A reply beyond this is an error: large enough for every reply of ours, small enough to survive a hostile server."""


def pack(parts: Sequence[str | bytes | int | float]) -> bytes:
    """The bytes of one command."""
    try:
        packed: bytes = hiredis.pack_command(tuple(parts))  # type: ignore[arg-type]  # its stub means any length
    except UnicodeEncodeError:
        return pack([_encode_odd(part) if isinstance(part, str) else part for part in parts])
    return packed


def _encode_odd(text: str) -> bytes:
    try:
        # The id of a foreign job that is no UTF-8; see `jobs.job.text_of_id`.
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        # Half a character out of another library's JSON; the mark that JavaScript would write.
        return text.encode("utf-16", errors="surrogatepass").decode("utf-16", errors="replace").encode()


def make_reader() -> hiredis.Reader:
    """A parser of replies: raises ValueError for what is none, and answers `NOTHING` while a reply is not whole."""
    return hiredis.Reader(protocolError=ValueError, replyError=replies.ServerReply, notEnoughData=NOTHING)


LOOKS = 8
"""How often the watchdog looks in the time that a reply may take; a late one is noticed an eighth later at most. A loop
that was held up for long has looked once meanwhile, and reads first what has arrived."""

MAX_LINE_BYTES = 64 * 1024
"""A status, number or error is never longer, nor is the announcement of a text or array."""


class AnnouncedElements:
    """Counts the elements that a stream's arrays announce, ahead of the parser, which makes room for all of them at
    once: a dozen bytes would cost gigabytes, and seconds of the loop's time."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        """Since this was last set to 0, which the reader does when a reply is whole."""
        self._limit = limit
        self._rest = b""
        self._skip = 0

    def feed(self, data: bytes) -> None:
        """Read the next bytes. Raises ValueError when more is announced than may be, or nothing that can be read."""
        data, at = self._rest + data, self._skip
        while (end := data.find(b"\r\n", at)) >= 0 and at < len(data):
            kind, line = data[at : at + 1], data[at + 1 : end]
            at = end + 2
            if kind in b"*%~>|":
                self.count += max(0, int(line))
                if self.count > self._limit:
                    raise ValueError(f"more than {self._limit} elements were announced")
            elif kind in b"$=!":
                size = int(line)
                at += size + 2 if size >= 0 else 0
        self._skip, self._rest = max(0, at - len(data)), data[at:]
        if len(self._rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line longer than {MAX_LINE_BYTES} bytes")


class Answer(Protocol):
    """Takes the answer to a command: a future, or an object that is called at once, not in the loop's next turn."""

    def done(self) -> bool:
        """Whether no caller waits for it any more."""
        ...

    def set_result(self, reply: Any, /) -> None: ...
    def set_exception(self, problem: Exception, /) -> None:
        """`ServerReply`: the server refused; else `UnknownOutcomeError`."""


_open: weakref.WeakSet[WireProtocol] = weakref.WeakSet()
"""Every connection of this process that has not been closed."""
_changing = threading.Lock()
"""For changes of `_open`."""


def _begin_in_child() -> None:
    """A forked process has none of the threads that may have held the lock."""
    global _changing  # noqa: PLW0603
    _changing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)


def abandon_closed_loops() -> None:
    """Close the connections of event loops that were closed without them: no other code has a reference to them."""
    with _changing:
        opened = list(_open)
    for protocol in opened:
        if protocol.is_abandoned:
            protocol.abandon()


class WireProtocol(asyncio.Protocol):
    """The reply side of a connection: bytes in, answers given in order."""

    def __init__(self, endpoint: str, max_reply_bytes: int = MAX_REPLY_BYTES) -> None:
        self.endpoint = endpoint
        self.closed: BaseException | None = None
        self.pending: collections.deque[Answer] = collections.deque()
        self._timeout_seconds = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._watched: Answer | None = None
        self._arrived = self._unsent = self._looks = 0
        self._max_reply_bytes = max_reply_bytes
        self._bytes_since_reply = 0
        # Who sets a limit of their own distrusts the server. An element takes more than a byte.
        self._announced = AnnouncedElements(max_reply_bytes) if max_reply_bytes < MAX_REPLY_BYTES else None
        self._reader = make_reader()
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports are subclasses of asyncio's; uvloop's are not.
        self.transport = cast(asyncio.Transport, transport)
        with _changing:
            _open.add(self)

    def data_received(self, data: bytes) -> None:
        self._bytes_since_reply += len(data)
        try:
            if self._announced is not None:
                self._announced.feed(data)
            self._reader.feed(data)
        except Exception as error:
            self._fail_to_parse(error)
            return
        while (reply := self._next_reply()) is not NOTHING:
            answer = self.pending.popleft()
            if answer.done():
                continue
            try:
                if isinstance(reply, replies.ServerReply):
                    answer.set_exception(reply)
                else:
                    answer.set_result(reply)
            except Exception:
                # No fault of the server. A new connection lets whoever waits find out what has been carried out.
                logger.exception("Redis %s: a reply could not be taken in, which is a fault of Toril", self.endpoint)
                message = f"Redis {self.endpoint}: given up, since Toril failed to take in a reply"
                self._fail(errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, message))
                return

    def _next_reply(self) -> Any:
        """The next whole reply that a caller waits for, or `NOTHING`, also when the connection is over."""
        try:
            reply = self._reader.gets()
            if reply is not NOTHING:
                self._bytes_since_reply = 0
                if self._announced is not None:
                    self._announced.count = 0
                if not self.pending:
                    raise ValueError("a reply that nobody asked for")
            elif self._bytes_since_reply > self._max_reply_bytes:
                raise ValueError(f"a reply larger than {self._max_reply_bytes} bytes")
        except Exception as error:
            self._fail_to_parse(error)
            return NOTHING
        return reply

    def _fail_to_parse(self, error: Exception) -> None:
        """Whatever the bytes did to the parser, this connection is over."""
        message = f"Redis {self.endpoint}: {replies.printable(error)}"
        self._fail(errors.RedisUnavailableError(RedisReason.PROTOCOL_ERROR, message))

    def connection_lost(self, exc: Exception | None) -> None:
        reason = replies.reason_of(exc) if exc else RedisReason.CONNECTION_REFUSED
        why = replies.words_of(exc) if exc else replies.CLOSED
        self._fail(errors.RedisUnavailableError(reason, f"Redis {self.endpoint}: {why}"))

    def send(self, packed: bytes) -> asyncio.Future[Any]:
        """Write one packed command; the future gets its reply."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.send_for(future, packed)
        return future

    def send_at_once(self, packed: Sequence[bytes]) -> list[asyncio.Future[Any]]:
        """Write several commands in one go. Whoever turns us away closes at once: a second write would fail, and what
        the server said would not be read."""
        futures: list[asyncio.Future[Any]] = [self._loop.create_future() for _ in packed]
        for future in futures[:-1]:
            self.pending.append(future)
        self.send_for(futures[-1], b"".join(packed))
        return futures

    def send_for(self, answer: Answer, packed: bytes) -> None:
        """Write one packed command, whose reply goes to `answer`."""
        if self.closed is not None:
            raise self.closed
        assert self.transport is not None
        self.pending.append(answer)
        self.transport.write(packed)

    def watch(self, timeout_seconds: float) -> None:
        """Give the connection up when a reply takes longer than this, counted from when the last bytes came or went: a
        large one, or a large command, may take its time. One timer watches all: a call costs none."""
        self._timeout_seconds = timeout_seconds
        self._watchdog = self._loop.call_later(timeout_seconds / LOOKS, self._look_for_late_reply)

    def _look_for_late_reply(self) -> None:
        oldest = self.pending[0] if self.pending else None
        # A server that is distrusted gets no time for trickling.
        arrived = self._bytes_since_reply if self._announced is None else 0
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        if oldest is None or oldest is not self._watched or arrived != self._arrived or unsent < self._unsent:
            self._watched, self._looks = oldest, 0
        else:
            self._looks += 1
        self._arrived, self._unsent = arrived, unsent
        if self._looks < LOOKS:
            self._watchdog = self._loop.call_later(self._timeout_seconds / LOOKS, self._look_for_late_reply)
            return
        message = f"Redis {self.endpoint}: no answer in {self._timeout_seconds:g} s"
        self._fail(errors.RedisUnavailableError(RedisReason.TIMEOUT, message))

    def abort(self, error: errors.RedisUnavailableError) -> None:
        """Give the connection up; everything pending fails with `error`."""
        self._fail(error)

    @property
    def is_abandoned(self) -> bool:
        """Whether its loop was closed, and it was not."""
        return self.closed is None and self._loop.is_closed()

    def abandon(self) -> None:
        """Close the socket of a connection whose loop is closed. Who waits for a reply on that loop never goes on."""
        self.pending.clear()
        # A transport leaves the end of its closing to its loop, which refuses.
        self._loop.call_soon = _call_now  # type: ignore[method-assign,assignment]
        self._fail(errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, "the event loop was closed"))

    def _fail(self, error: errors.RedisUnavailableError) -> None:
        if self.closed is None:
            self.closed = error
            with _changing:
                _open.discard(self)
        if self.transport is not None:
            self.transport.abort()
        if self._watchdog is not None:
            self._watchdog.cancel()
        waiting, self.pending = self.pending, collections.deque()
        for answer in waiting:
            if not answer.done():
                # Sent, and no reply came: it may have run.
                answer.set_exception(errors.UnknownOutcomeError(error.reason, str(error)))
                if isinstance(answer, asyncio.Future):
                    answer.exception()


def _call_now(callback: Callable[..., Any], *args: Any, context: Any = None) -> None:
    """Stands for `call_soon` of a closed loop."""
    callback(*args)


async def open_connection(
    settings: RedisSettings, *, client_name: str | None, timeout_seconds: float, max_reply_bytes: int = MAX_REPLY_BYTES
) -> WireProtocol:
    """Connect, log in, choose the database, set the name.

    Raises:
        RedisUnavailableError: not reached or not let in; `reason` says which.
    """
    protocol: WireProtocol | None = None
    commands = greeting.build_greeting(settings, client_name)
    outcomes: list[Any] = []
    try:
        async with asyncio.timeout(timeout_seconds):
            protocol = await _dial(settings, max_reply_bytes)
            await _greet(protocol, commands, outcomes)
        refused = greeting.refusal(commands, outcomes, settings.endpoint)
        is_wordless = bool(outcomes) and replies.is_wordless(outcomes[0])
        if refused is None:
            return protocol
    except replies.CONNECTING_FAILS as problem:
        refused = greeting.refusal(commands, outcomes, settings.endpoint)
        is_silent = settings.tls is not None and isinstance(problem, TimeoutError) and protocol is None
        is_wordless = refused is None and (is_silent or replies.is_wordless(problem))
        refused = refused or replies.from_connecting(problem, settings.endpoint)
        _abort(protocol, refused)
    except asyncio.CancelledError:
        _abort(protocol, errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, "connecting was cancelled"))
        raise
    else:
        _abort(protocol, refused)
    raise (await asyncio.to_thread(stranger.identify, settings) if is_wordless else None) or refused


async def _greet(protocol: WireProtocol, commands: Sequence[greeting.Command], outcomes: list[Any]) -> None:
    """Send everything at once, and put what comes back into `outcomes`, replies and errors."""
    try:
        sent = protocol.send_at_once([pack(greeting.revealed(command)) for command in commands])
    except errors.RedisError as closed:
        outcomes.append(closed)
        return
    for answer in sent:
        # Not every answer is waited for when time is up.
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
    for answer in sent:
        try:
            outcomes.append(await answer)
        except (replies.ServerReply, errors.RedisError) as problem:
            outcomes.append(problem)


def _abort(protocol: WireProtocol | None, error: errors.RedisUnavailableError) -> None:
    if protocol is not None:
        protocol.abort(error)


async def _dial(settings: RedisSettings, max_reply_bytes: int) -> WireProtocol:
    loop = asyncio.get_running_loop()

    def make() -> WireProtocol:
        return WireProtocol(settings.endpoint, max_reply_bytes)

    if settings.unix_socket:
        _, protocol = await loop.create_unix_connection(make, settings.unix_socket)
        return protocol
    context = settings.tls.context() if settings.tls else None
    server_name = settings.certificate_name if context is not None else None
    failure: OSError | None = None
    for address in settings.addresses or (settings.host,):
        try:
            _, protocol = await loop.create_connection(
                make, address, settings.port, ssl=context, server_hostname=server_name
            )
        except OSError as error:
            failure = error
        else:
            assert protocol.transport is not None
            keep_alive(protocol.transport.get_extra_info("socket"))
            return protocol
    assert failure is not None
    raise failure


def keep_alive(connection: Any) -> None:
    """Let the kernel notice a peer that vanished without a word: reads may last for ever on a blocking connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
