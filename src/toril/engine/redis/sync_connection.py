"""The synchronous connection: for producers without an event loop. One caller at a time; same calls, same errors."""

from __future__ import annotations

import os
import threading
from typing import Any, TypeVar, cast

from redis import exceptions as redis_exceptions
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from toril import errors
from toril.engine.redis import protocol, replies
from toril.engine.redis.connection import DEFAULT_TIMEOUT_SECONDS, Call, Part
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason

R = TypeVar("R")


class SyncConnection:
    """A connection without an event loop; safe to share between threads, which then wait for each other. A forked
    process gets one of its own."""

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
        self._begin()

    def _begin(self) -> None:
        self._connection: Any = _make(self.settings, self._client_name, self._timeout_seconds)
        self._turn = threading.Lock()
        self._process = os.getpid()

    def run(self, call: Call[R]) -> R:
        """Run one script and return its parsed reply. Raises as `AsyncConnection.run` does."""
        try:
            reply = self._request(call.pack())
        except redis_exceptions.NoScriptError:
            reply = self._request_or_raise(call.pack(by_source=True))
        except redis_exceptions.RedisError as problem:
            raise self._refused(problem) from None
        return call.parse(reply)

    def command(self, *parts: Part) -> Any:
        """Run one plain command and return its reply. Raises as `run` does."""
        return self._request_or_raise(protocol.pack(parts))

    def close(self) -> None:
        self._connection.disconnect()

    def _request_or_raise(self, packed: bytes) -> Any:
        try:
            return self._request(packed)
        except redis_exceptions.RedisError as problem:
            raise self._refused(problem) from None

    def _refused(self, problem: redis_exceptions.RedisError) -> errors.RedisError:
        """Our error for a reply that tells of one; a server that may not write is left, to be looked up anew."""
        # redis-py takes the code out of the text.
        code = getattr(problem, "status_code", None) or ""
        refused = replies.from_server(replies.ServerReply(f"{code} {problem}".strip()), self.settings.endpoint)
        if refused.reason is RedisReason.NOT_MASTER:
            self._connection.disconnect()
        return refused

    def _request(self, packed: bytes) -> Any:
        """Send and read once. Lets the server's own error replies through as redis-py raises them."""
        if self._process != os.getpid():
            # This process was forked: the connection is still its parent's, and a thread there may have had the turn.
            self._begin()
        with self._turn:
            self._connect()
            try:
                self._connection.send_packed_command([packed], check_health=False)
                return self._connection.read_response()
            except (redis_exceptions.ResponseError, redis_exceptions.BusyLoadingError):
                raise
            except (redis_exceptions.ConnectionError, redis_exceptions.TimeoutError, OSError) as problem:
                self._connection.disconnect()
                late = isinstance(problem, redis_exceptions.TimeoutError | TimeoutError)
                reason = RedisReason.TIMEOUT if late else RedisReason.CONNECTION_REFUSED
                message = f"Redis {self.settings.endpoint}: {replies.printable(problem)}"
                raise errors.UnknownOutcomeError(reason, message) from None

    def _connect(self) -> None:
        try:
            self._connection.connect()
        except (redis_exceptions.AuthenticationError, redis_exceptions.BusyLoadingError) as problem:
            refused = self._refused(problem)
            raise errors.RedisUnavailableError(refused.reason, str(refused)) from None
        except (redis_exceptions.RedisError, OSError) as problem:
            cause = problem.__cause__ or problem.__context__ or problem
            if isinstance(problem, redis_exceptions.TimeoutError):
                cause = TimeoutError()
            raise replies.from_connecting(cause, self.settings.endpoint) from None


def _make(settings: RedisSettings, client_name: str | None, timeout_seconds: float) -> Any:
    """A redis-py connection: untyped there, so `Any` here."""
    common: dict[str, Any] = {
        "db": settings.db,
        "username": settings.username,
        "password": settings.password.reveal() if settings.password else None,
        "client_name": client_name,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        # redis-py repeats scripts by default; nothing of ours is ever sent twice.
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }
    if settings.unix_socket:
        unix: Any = UnixDomainSocketConnection
        return unix(path=settings.unix_socket, **common)
    common |= {"host": settings.host, "port": settings.port, "socket_keepalive": True}
    if settings.tls is None:
        plain: Any = Connection
        return plain(**common)
    tls, secured = settings.tls, cast(Any, SSLConnection)
    return secured(
        ssl_ca_certs=tls.ca_file,
        ssl_certfile=tls.cert_file,
        ssl_keyfile=tls.key_file,
        ssl_check_hostname=True,
        **common,
    )
