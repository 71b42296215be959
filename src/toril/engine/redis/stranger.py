"""What a server is that closes a connection before it has answered, or stays silent where TLS should begin."""

from __future__ import annotations

import contextlib
import socket
import ssl

from toril import errors
from toril.engine.redis import replies
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.tls import TlsMaterialError
from toril.errors import RedisReason

LIMIT_SECONDS = 1.0
"""How long each of the questions may take."""

FIRST_WORD_SECONDS = 0.2
"""How long a Redis may take that speaks first, to turn a client away. What it says is lost when we write first."""

_POSTGRESQL_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""`SSLRequest` of PostgreSQL's protocol. A PostgreSQL of any version answers with one byte, `S` or `N`; Redis waits for
the end of a line."""


def identify(settings: RedisSettings) -> errors.RedisUnavailableError | None:
    """Look why the server does not answer. Blocks for a few seconds at most, and sends no secret.

    Returns:
        What to report in place of "closed the connection" or "no answer"; None = that says all there is.
    """
    if settings.unix_socket:
        return None
    if settings.tls is not None and (told := _refused_by_tls(settings)) is not None:
        return told
    first_word, is_postgresql = _first_words(settings)
    if first_word.startswith(b"-"):
        error = replies.from_server(replies.ServerReply(first_word[1:].decode(errors="replace")), settings.endpoint)
        return errors.RedisUnavailableError(error.reason, str(error))
    if is_postgresql:
        return errors.RedisUnavailableError(
            RedisReason.NOT_REDIS,
            f"{settings.host}:{settings.port} is a PostgreSQL. BullMQ 6 can keep its queues in one; "
            "Toril speaks Redis only",
        )
    if settings.tls is None and _wants_tls(settings):
        message = f"Redis {settings.endpoint} wants TLS: use rediss:// or, beside a host, TORIL_REDIS_TLS=true"
        return errors.RedisUnavailableError(RedisReason.TLS_FAILED, message)
    if settings.tls is not None and _answers_without_tls(settings):
        message = f"cannot connect to Redis {settings.endpoint}: it speaks no TLS"
        return errors.RedisUnavailableError(RedisReason.TLS_FAILED, message)
    return None


def _refused_by_tls(settings: RedisSettings) -> errors.RedisUnavailableError | None:
    """What the server's TLS says after the handshake, where it refuses a client's certificate."""
    assert settings.tls is not None
    try:
        context = settings.tls.context()
        with _dial(settings) as plain, context.wrap_socket(plain, server_hostname=settings.certificate_name) as secured:
            secured.recv(1)
    except ssl.SSLEOFError:
        return None
    except (ssl.SSLError, TlsMaterialError) as problem:
        return replies.from_connecting(problem, settings.endpoint)
    except OSError:
        return None
    return None


def _first_words(settings: RedisSettings) -> tuple[bytes, bool]:
    """What the server says unasked, and whether it answers as a PostgreSQL does."""
    with contextlib.suppress(OSError), _dial(settings) as connection:
        connection.settimeout(FIRST_WORD_SECONDS)
        with contextlib.suppress(TimeoutError):
            return connection.recv(200), False
        connection.settimeout(LIMIT_SECONDS)
        connection.sendall(_POSTGRESQL_SSL_REQUEST)
        return b"", connection.recv(1) in (b"S", b"N")
    return b"", False


def _wants_tls(settings: RedisSettings) -> bool:
    """Nothing but a handshake is made, so the certificate does not matter here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError), _dial(settings) as connection, context.wrap_socket(connection):
        return True
    return False


def _answers_without_tls(settings: RedisSettings) -> bool:
    with contextlib.suppress(OSError), _dial(settings) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(1) in (b"+", b"-")
    return False


def _dial(settings: RedisSettings) -> socket.socket:
    host = settings.addresses[0] if settings.addresses else settings.host
    return socket.create_connection((host, settings.port), LIMIT_SECONDS)
