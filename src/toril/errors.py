"""Every exception of this project: one tree under `TorilError`.

An error names what was wrong (the field, the key, the job) and what to do. Text from outside is shortened and stripped
of control characters before it becomes part of a message. A message never holds a secret.
"""

from __future__ import annotations

from enum import StrEnum


class TorilError(Exception):
    """Base of all errors raised on purpose by this project."""


# ---- input ---------------------------------------------------------------------------------------------------------


class InvalidInputError(TorilError, ValueError):
    """A caller's value was refused; nothing was written.

    Attributes:
        field: path of the refused value, such as `opts.priority` or `spec.worker.processor`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class InvalidOptionError(InvalidInputError):
    """A job or queue option is unknown or out of range."""


class InvalidPayloadError(InvalidInputError):
    """Job data, a return value or progress is not JSON that every BullMQ client can read, or is too large."""


class InvalidSpecError(InvalidInputError):
    """A manifest's field is wrong; `field` is its path from the root (`spec.scaling.maxReplicas`)."""


# ---- Redis ---------------------------------------------------------------------------------------------------------


class RedisReason(StrEnum):
    """Why Redis cannot serve; the same words are the reasons of the condition `RedisReachable`."""

    CONNECTION_REFUSED = "ConnectionRefused"
    """No server listens at the address, or the connection was cut."""
    TIMEOUT = "Timeout"
    """No answer in time."""
    AUTH_FAILED = "AuthFailed"
    """Wrong or missing password, a right that the user lacks, or a server in protected mode."""
    TLS_FAILED = "TLSFailed"
    """The certificate was not accepted, or the server speaks no TLS."""
    NOT_MASTER = "NotMaster"
    """The server is a read-only replica."""
    LOADING = "Loading"
    """The server is reading its data from disk."""
    NO_REPLICAS = "NoReplicas"
    """The server refuses writes: fewer replicas follow it than `min-replicas-to-write` asks for."""
    CLUSTER_DOWN = "ClusterDown"
    """The cluster cannot serve this slot."""
    IS_CLUSTER = "IsCluster"
    """The server is a node of a Redis Cluster, and the queue's keys are not all in its slots."""
    IS_SENTINEL = "IsSentinel"
    """The server is a Redis Sentinel, which holds no data."""
    NOT_REDIS = "NotRedis"
    """The server is a PostgreSQL."""
    NO_SUCH_DATABASE = "NoSuchDatabase"
    """The server has fewer databases than the number asked for."""
    OUT_OF_MEMORY = "OutOfMemory"
    """`maxmemory` is reached and nothing may be evicted."""
    DISK_FAILED = "DiskFailed"
    """The server refuses writes: it could not write its data to disk."""
    PROTOCOL_ERROR = "ProtocolError"
    """The reply is not RESP, so the server is no Redis; or the reply is larger than its size limit."""
    ENDPOINT_REFUSED = "EndpointRefused"
    """The address is loopback or link-local and that was not allowed."""
    WRONG_TYPE = "WrongType"
    """A key of the queue holds another type than BullMQ's."""


class RedisError(TorilError):
    """Redis did not carry out a call.

    Attributes:
        reason: machine-readable cause.
        temporary: whether the same call may succeed later, without a change of the queue, the settings or the call.
    """

    def __init__(self, reason: RedisReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def temporary(self) -> bool:
        return self.reason not in (RedisReason.WRONG_TYPE, RedisReason.ENDPOINT_REFUSED)


class RedisUnavailableError(RedisError):
    """Redis could not be reached, or answered that it cannot serve now.

    The call had no effect when Redis refused it, or when it could not be sent. When the reply was lost, the call may
    have been carried out; it may be repeated then, since it has the same effect twice. A call for which that is not so
    raises `UnknownOutcomeError` instead.
    """


class UnknownOutcomeError(RedisError):
    """The connection broke after the call was sent: it may or may not have been carried out.

    Raised by an add without a job id. Give jobs an id to make adding safe to repeat.
    """


class WrongKeyTypeError(RedisError):
    """A key of this queue holds another type than BullMQ's layout has; nothing was written."""

    def __init__(self, message: str) -> None:
        super().__init__(RedisReason.WRONG_TYPE, message)


# ---- jobs ----------------------------------------------------------------------------------------------------------


class JobNotFoundError(TorilError, LookupError):
    """There is no job of this id: it was never added, or was removed, by retention or by a call."""


class JobStateError(TorilError):
    """The job is not in the state that the operation needs."""


class ParentNotFoundError(JobNotFoundError):
    """There is no job with the key of the parent; the child was not added.

    Attributes:
        parent_key: the parent's key in Redis.
    """

    def __init__(self, job_id: str, parent_key: str) -> None:
        super().__init__(f"job {job_id or '(new)'} was not added: there is no parent job {parent_key}")
        self.parent_key = parent_key


class ParentConflictError(JobStateError):
    """The job exists already, as a child of another job that exists. A job has one parent, so it was not changed."""

    def __init__(self, job_id: str, parent_key: str) -> None:
        super().__init__(f"job {job_id} belongs to another parent than {parent_key}")
        self.parent_key = parent_key


class JobLockedError(JobStateError):
    """A worker runs the job, so it cannot be removed now. Try again when the job has ended."""


class JobFailedError(TorilError):
    """The awaited job failed, with no attempt left.

    Attributes:
        failed_reason: as the job stores it; also `str()` of this error.
        stacktrace: the tracebacks of its attempts as the worker stored them, oldest first.
    """

    def __init__(self, job_id: str, failed_reason: str, stacktrace: tuple[str, ...] = ()) -> None:
        super().__init__(failed_reason)
        self.job_id = job_id
        self.failed_reason = failed_reason
        self.stacktrace = stacktrace


class ResultTimeoutError(TorilError, TimeoutError):
    """The awaited job did not finish within `timeout`. The job goes on."""


class UnrecoverableError(TorilError):
    """A processor raises this to fail its job now, without another attempt."""


class JobSignalError(TorilError):
    """A processor raises this to end its run without ending its job. It is no failure, and the attempt does not count.

    `Job.move_to_delayed`, `move_to_wait`, `move_to_waiting_children` and `limit_rate` raise these. Let them through.
    """


class DelayJobError(JobSignalError):
    """The job runs anew after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the job is to run again in {seconds:g} s")
        self.seconds = seconds


class RequeueJobError(JobSignalError):
    """The job runs anew as the queue's next one."""


class WaitForChildrenError(JobSignalError):
    """The job runs anew when its children have ended."""


class RateLimitedError(JobSignalError):
    """The queue is rate-limited: the job runs anew, as the queue's next one, when the limit is over.

    Attributes:
        seconds: length of the limit; None keeps the limit that `Queue.rate_limit` has set.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__("the queue's rate limit is reached")
        self.seconds = seconds


class NoCurrentJobError(TorilError, LookupError):
    """`Job.current()` was used outside a running job, or `Job.sync` on the event loop of its worker, which would
    block."""


Unrecoverable = UnrecoverableError
"""Short alias, for writing `raise Unrecoverable("no such user")`."""


# ---- programs ------------------------------------------------------------------------------------------------------


class ProcessorLoadError(TorilError):
    """The processor's module could not be imported, or has no tasks for the queue; the message says which."""


class SettingsError(TorilError):
    """An environment variable or flag is missing or wrong; the message names it, never its value."""


# ---- Kubernetes ----------------------------------------------------------------------------------------------------


class KubeError(TorilError):
    """The API server did not carry out a call. `str()` holds the call and the server's message.

    Attributes:
        status: HTTP status code; 0 = there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KubeUnavailableError(KubeError):
    """Until the call's deadline there was no answer, or only 429 or 5xx; or a list's next page has expired (410). The
    same call, or the whole list, may be made again."""


class KubeNotFoundError(KubeError):
    """There is no such object, namespace or type of object (404)."""


class KubeConflictError(KubeError):
    """The object has changed since it was read, or another field manager owns a field (409). Read it again before
    writing."""


class KubeForbiddenError(KubeError):
    """The credentials or a right are missing, or admission refused the object (401, 403)."""


class KubeInvalidError(KubeError):
    """The object is invalid (400, 413, 415, 422): the same call fails again."""
