"""The synchronous connection: for producers without an event loop. One caller at a time; same calls, same errors."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import weakref
from typing import Any, TypeVar

from toril import errors
from toril.engine.redis import greeting, protocol, replies, stranger
from toril.engine.redis.connection import DEFAULT_TIMEOUT_SECONDS, Call, Part
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason

R = TypeVar("R")
_READ_BYTES = 64 * 1024


class SyncConnection:
    """A connection without an event loop.

    Threads may share one: a request waits until those of other threads have their replies. A forked process opens a
    connection of its own. A signal handler may send a request while the thread that it interrupts waits for a reply:
    that request goes over a connection of its own.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        client_name: str | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self.settings = settings
        self._client_name = client_name
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self._reader = protocol.make_reader()
        self._turn = threading.Lock()
        self._turn_of: int | None = None
        """Which thread has the turn, so that a signal handler in this thread does not wait for it."""
        self._is_closing = False
        _alive.add(self)

    def run(self, call: Call[R]) -> R:
        """Run one script and return its parsed reply. Raises as `AsyncConnection.run` does."""
        try:
            reply = self._request(call.pack())
        except replies.ServerReply as problem:
            if not str(problem).startswith("NOSCRIPT"):
                raise self._refused(problem) from None
            reply = self._request_or_raise(call.pack(by_source=True))
        return call.parse(reply)

    def command(self, *parts: Part) -> Any:
        """Run one plain command and return its reply. Raises as `run` does."""
        return self._request_or_raise(protocol.pack(parts))

    def close(self) -> None:
        """Close the connection: now, or as soon as the request that is under way has its reply. Never waits."""
        self._is_closing = True
        if self._turn.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._turn.release()

    def _drop(self) -> None:
        """Close the socket. Only for the thread that has the turn."""
        self._is_closing = False
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _begin_in_child(self) -> None:
        """Leave the connection to the parent process, in which a thread may have had the turn."""
        self._turn, self._turn_of = threading.Lock(), None
        self._drop()

    def __del__(self) -> None:
        """A queue without references leaves no connection behind."""
        if (left := getattr(self, "_socket", None)) is not None:
            left.close()

    def _request_or_raise(self, packed: bytes) -> Any:
        try:
            return self._request(packed)
        except replies.ServerReply as problem:
            raise self._refused(problem) from None

    def _refused(self, problem: replies.ServerReply) -> errors.RedisError:
        """Our error for a reply that is one; a server that may not write is left, to be looked up anew."""
        refused = replies.from_server(problem, self.settings.endpoint)
        if refused.reason is RedisReason.NOT_MASTER:
            self.close()
        return refused

    def _request(self, packed: bytes) -> Any:
        """Send and read once. Raises `ServerReply` for the server's own error replies."""
        if self._turn_of == (thread := threading.get_ident()):
            # This is a signal handler, and the thread that it interrupts waits for its own reply.
            return self._request_aside(packed)
        try:
            with self._turn:
                self._turn_of = thread
                try:
                    reply = self._exchange(packed)
                finally:
                    self._turn_of = None
        finally:
            if self._is_closing:
                self.close()
        if isinstance(reply, replies.ServerReply):
            raise reply
        return reply

    def _exchange(self, packed: bytes) -> Any:
        connection = self._connected()
        try:
            connection.sendall(packed)
            return self._read(connection)
        except (OSError, ValueError) as problem:
            self._drop()
            raise errors.UnknownOutcomeError(
                replies.reason_of(problem), f"Redis {self.settings.endpoint}: {replies.words_of(problem)}"
            ) from None
        except BaseException:
            # The reply may still come: never to the next caller.
            self._drop()
            raise

    def _request_aside(self, packed: bytes) -> Any:
        aside = SyncConnection(self.settings, client_name=self._client_name, timeout_seconds=self._timeout_seconds)
        try:
            return aside._request(packed)
        finally:
            aside.close()

    def _read(self, connection: socket.socket) -> Any:
        size = 0
        while (reply := self._reader.gets()) is protocol.NOTHING:
            data = connection.recv(_READ_BYTES)
            if not data:
                raise replies.Closed(replies.CLOSED)
            size += len(data)
            if size > protocol.MAX_REPLY_BYTES:
                raise ValueError(f"a reply larger than {protocol.MAX_REPLY_BYTES} bytes")
            self._reader.feed(data)
        return reply

    def _connected(self) -> socket.socket:
        """The connection, made anew when there is none or the server has closed it since.

        Raises:
            RedisUnavailableError: not reached or not let in; `reason` says which.
        """
        if self._socket is not None and _is_over(self._socket):
            self._drop()
        if self._socket is None:
            self._reader = protocol.make_reader()
            self._socket = self._connect()
        self._socket.settimeout(self._timeout_seconds)
        return self._socket

    def _connect(self) -> socket.socket:
        connection: socket.socket | None = None
        try:
            connection = _dial(self.settings, self._timeout_seconds)
            self._greet(connection)
        except BaseException as problem:
            if connection is not None:
                connection.close()
            if not isinstance(problem, replies.CONNECTING_FAILS):
                raise
            is_silent = self.settings.tls is not None and isinstance(problem, TimeoutError)
            if (is_silent or replies.is_wordless(problem)) and (told := stranger.identify(self.settings)) is not None:
                raise told from None
            raise replies.from_connecting(problem, self.settings.endpoint) from None
        return connection

    def _greet(self, connection: socket.socket) -> None:
        commands = greeting.build_greeting(self.settings, self._client_name)
        outcomes: list[Any] = []
        try:
            connection.sendall(b"".join(protocol.pack(greeting.revealed(command)) for command in commands))
            for _ in commands:
                outcomes.append(self._read(connection))  # noqa: PERF401 - what came before a failure is read
        except (OSError, ValueError):
            if (refused := greeting.refusal(commands, outcomes, self.settings.endpoint)) is not None:
                raise refused from None
            raise
        if (refused := greeting.refusal(commands, outcomes, self.settings.endpoint)) is not None:
            raise refused


_alive: weakref.WeakSet[SyncConnection] = weakref.WeakSet()
"""Every synchronous connection of this process."""


def _begin_in_child() -> None:
    for connection in list(_alive):
        connection._begin_in_child()


if hasattr(os, "register_at_fork"):
    # A forked process has one thread here, before its program goes on: no two threads can begin at once.
    os.register_at_fork(after_in_child=_begin_in_child)


def _dial(settings: RedisSettings, timeout_seconds: float) -> socket.socket:
    if settings.unix_socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(timeout_seconds)
            connection.connect(settings.unix_socket)
        except BaseException:
            connection.close()
            raise
        return connection
    context = settings.tls.context() if settings.tls else None
    failure: OSError | None = None
    for address in settings.addresses or (settings.host,):
        try:
            connection = socket.create_connection((address, settings.port), timeout_seconds)
            protocol.keep_alive(connection)
            if context is not None:
                # Closes the socket itself when the handshake fails.
                connection = context.wrap_socket(connection, server_hostname=settings.certificate_name)
        except OSError as problem:
            failure = problem
        else:
            return connection
    assert failure is not None
    raise failure


def _is_over(connection: socket.socket) -> bool:
    """Whether the server has closed the connection since the last reply. Then a call was not sent, and may be."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if not poll.poll(0):
        return False
    connection.setblocking(False)
    try:
        # Something to read: the end, or an answer that nobody asked for. With TLS also a note to the other side's TLS.
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        pass
    return True
