"""What goes wrong between us and Redis, as our own errors: every failure gets one of the reasons of `RedisReason`."""

from __future__ import annotations

import ssl

from toril import errors
from toril.errors import RedisReason

_BY_WORD = (
    # Inside a script the word may stand in the middle of the text, so the whole text is searched.
    ("WRONGTYPE", RedisReason.WRONG_TYPE),
    ("NOAUTH", RedisReason.AUTH_FAILED),
    ("WRONGPASS", RedisReason.AUTH_FAILED),
    ("NOPERM", RedisReason.AUTH_FAILED),
    ("invalid password", RedisReason.AUTH_FAILED),
    ("invalid username-password", RedisReason.AUTH_FAILED),
    ("LOADING", RedisReason.LOADING),
    ("BUSY", RedisReason.LOADING),
    ("READONLY", RedisReason.NOT_MASTER),
    # A wait that the server ended because it became a replica.
    ("UNBLOCKED", RedisReason.NOT_MASTER),
    ("MASTERDOWN", RedisReason.NOT_MASTER),
    ("CLUSTERDOWN", RedisReason.CLUSTER_DOWN),
    ("MOVED", RedisReason.CLUSTER_DOWN),
    ("TRYAGAIN", RedisReason.CLUSTER_DOWN),
    ("OOM", RedisReason.OUT_OF_MEMORY),
    ("MISCONF", RedisReason.OUT_OF_MEMORY),
    ("max number of clients", RedisReason.CONNECTION_REFUSED),
)


class ServerReply(Exception):  # noqa: N818 - not raised past this package
    """An error reply of the server, as the protocol reader hands it over."""


def printable(text: object, limit: int = 120) -> str:
    """Shorten text from outside and drop what is not printable, so that it can stand in a message."""
    return "".join(char if char.isprintable() else " " for char in str(text))[:limit]


def from_server(reply: BaseException, endpoint: str) -> errors.RedisError:
    """Turn an error reply into our error. The server's words are shortened; they are data, not to be trusted."""
    text = str(reply)
    for word, reason in _BY_WORD:
        if word in text:
            if reason is RedisReason.WRONG_TYPE:
                return errors.WrongKeyTypeError(f"a key of this queue on {endpoint} has a type that is not BullMQ's")
            return errors.RedisUnavailableError(reason, f"Redis {endpoint} refused: {printable(text)}")
    return errors.RedisError(RedisReason.PROTOCOL_ERROR, f"Redis {endpoint} answered: {printable(text)}")


def from_connecting(error: BaseException, endpoint: str) -> errors.RedisUnavailableError:
    """Turn a failure to connect into our error; nothing was sent."""
    if isinstance(error, TimeoutError):
        reason, words = RedisReason.TIMEOUT, "no answer in time"
    elif isinstance(error, ssl.SSLError):
        reason, words = RedisReason.TLS_FAILED, printable(error)
    else:
        reason, words = RedisReason.CONNECTION_REFUSED, printable(error) or type(error).__name__
    return errors.RedisUnavailableError(reason, f"cannot connect to Redis {endpoint}: {words}")
