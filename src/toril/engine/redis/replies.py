"""What goes wrong between us and Redis, as our own errors: every failure gets one of the reasons of `RedisReason`."""

from __future__ import annotations

import re
import ssl

from toril import errors
from toril.engine.redis.tls import TLS_FILES, TlsMaterialError
from toril.errors import RedisReason

_BY_CODE = {
    "WRONGTYPE": RedisReason.WRONG_TYPE,
    "NOAUTH": RedisReason.AUTH_FAILED,
    "WRONGPASS": RedisReason.AUTH_FAILED,
    "NOPERM": RedisReason.AUTH_FAILED,
    "DENIED": RedisReason.AUTH_FAILED,
    "LOADING": RedisReason.LOADING,
    "BUSY": RedisReason.LOADING,
    "READONLY": RedisReason.NOT_MASTER,
    # A wait that the server ended because it became a replica.
    "UNBLOCKED": RedisReason.NOT_MASTER,
    "MASTERDOWN": RedisReason.NOT_MASTER,
    "NOREPLICAS": RedisReason.NO_REPLICAS,
    "CLUSTERDOWN": RedisReason.CLUSTER_DOWN,
    "TRYAGAIN": RedisReason.CLUSTER_DOWN,
    "MOVED": RedisReason.IS_CLUSTER,
    "ASK": RedisReason.IS_CLUSTER,
    "CROSSSLOT": RedisReason.IS_CLUSTER,
    "OOM": RedisReason.OUT_OF_MEMORY,
    "MISCONF": RedisReason.DISK_FAILED,
}
"""The first word of an error reply."""

_CODE = re.compile(rf"(?:^|[\s:]-?)({'|'.join(_BY_CODE)})\s")
"""An error inside a script has its code in the middle of the text with some servers."""

_BY_PHRASE = {
    "The user executing the script can't": RedisReason.AUTH_FAILED,
    "ACL failure in script": RedisReason.AUTH_FAILED,
    "invalid password": RedisReason.AUTH_FAILED,
    "invalid username-password": RedisReason.AUTH_FAILED,
    "called without any password": RedisReason.AUTH_FAILED,
    "no password is set": RedisReason.AUTH_FAILED,
    "not allowed in cluster mode": RedisReason.IS_CLUSTER,
    "a non local key in a cluster node": RedisReason.IS_CLUSTER,
    "do not hash to the same slot": RedisReason.IS_CLUSTER,
    "DB index is out of range": RedisReason.NO_SUCH_DATABASE,
    "max number of clients": RedisReason.CONNECTION_REFUSED,
}
"""What servers say with the code `ERR`, or in the words of an older release."""


CLOSED = "the server closed the connection"


class Closed(ConnectionError):  # noqa: N818 - not raised past this package
    """The server closed the connection where a reply should have come."""


class ServerReply(Exception):  # noqa: N818 - not raised past this package
    """An error reply of the server, as the protocol reader hands it over."""


def printable(text: object, limit: int = 120) -> str:
    """Shorten text from outside and drop what is not printable, so that it can stand in a message."""
    return "".join(char if char.isprintable() else " " for char in str(text))[:limit]


def from_server(reply: BaseException, endpoint: str) -> errors.RedisError:
    """Turn an error reply into our error. The server's words are shortened; they are data, not to be trusted."""
    text = str(reply)
    match _reason_of(text):
        case None:
            return errors.RedisError(RedisReason.PROTOCOL_ERROR, f"Redis {endpoint} answered: {printable(text)}")
        case RedisReason.WRONG_TYPE:
            return errors.WrongKeyTypeError(f"a key of this queue on {endpoint} has a type that is not BullMQ's")
        case RedisReason.IS_CLUSTER:
            message = (
                f"Redis {endpoint} is a Cluster: use the node that holds the queue's slot, and a prefix in braces "
                f"such as {{bull}} for all keys to be in one slot. It refused: {printable(text)}"
            )
            return errors.RedisUnavailableError(RedisReason.IS_CLUSTER, message)
        case RedisReason.OUT_OF_MEMORY:
            message = (
                f"Redis {endpoint} is full: `maxmemory` is reached, and this call wrote nothing. Give Redis memory, or "
                f"keep fewer finished jobs (`removeOnComplete`, `removeOnFail`). It refused: {printable(text)}"
            )
            return errors.RedisUnavailableError(RedisReason.OUT_OF_MEMORY, message)
        case reason:
            return errors.RedisUnavailableError(reason, f"Redis {endpoint} refused: {printable(text)}")


def _reason_of(text: str) -> RedisReason | None:
    """None = an error that no server state explains."""
    if found := _CODE.search(f"{text} "):
        return _BY_CODE[found[1]]
    return next((reason for phrase, reason in _BY_PHRASE.items() if phrase in text), None)


def reason_of(problem: BaseException) -> RedisReason:
    """Why an established connection broke."""
    if isinstance(problem, TimeoutError):
        return RedisReason.TIMEOUT
    if isinstance(problem, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return RedisReason.CONNECTION_REFUSED
    if isinstance(problem, ssl.SSLError):
        return RedisReason.TLS_FAILED
    return RedisReason.PROTOCOL_ERROR if isinstance(problem, ValueError) else RedisReason.CONNECTION_REFUSED


_TLS_REASONS = {
    "WRONG_VERSION_NUMBER": "it speaks no TLS",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a client's certificate (TORIL_REDIS_TLS_CERT_FILE)",
}


def words_of(problem: BaseException) -> str:
    """What broke a connection, for people."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {printable(problem.verify_message)}"
    if isinstance(problem, ssl.SSLError) and problem.reason in _TLS_REASONS:
        return _TLS_REASONS[problem.reason]
    return printable(problem) or type(problem).__name__


CONNECTING_FAILS = (OSError, ValueError, TlsMaterialError)
"""What connecting and greeting raise, besides errors of ours."""


def from_connecting(problem: BaseException, endpoint: str) -> errors.RedisUnavailableError:
    """Turn a failure to connect into our error; nothing was sent but the greeting."""
    if isinstance(problem, TimeoutError):
        reason, words = RedisReason.TIMEOUT, "no answer in time"
    elif isinstance(problem, TlsMaterialError):
        reason, words = RedisReason.TLS_FAILED, f"{TLS_FILES[f'{problem.part}_file']} {problem}"
    elif isinstance(problem, ssl.SSLError):
        reason, words = RedisReason.TLS_FAILED, words_of(problem)
    else:
        reason, words = reason_of(problem), words_of(problem)
    return errors.RedisUnavailableError(reason, f"cannot connect to Redis {endpoint}: {words}")


def is_wordless(problem: object) -> bool:
    """Whether the server closed the connection before it answered anything.

    Args:
        problem: what connecting raised, or what came in the place of the first reply.
    """
    if isinstance(problem, errors.RedisError):
        return problem.reason is RedisReason.CONNECTION_REFUSED
    is_cut = isinstance(problem, ConnectionError | ssl.SSLEOFError)
    return is_cut and not isinstance(problem, ConnectionRefusedError)
