"""Every exception of this project: one tree under `TorilError`.

An error names what was wrong (the field, the key, the job) and what to do. Text that came from outside is shortened
and stripped of control characters before it gets here; secrets never do.
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
    """Nobody listens, or the connection was cut."""
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
    """The answer made no sense: no Redis, or a reply beyond its size limit."""
    ENDPOINT_REFUSED = "EndpointRefused"
    """The address is loopback or link-local and that was not allowed."""
    WRONG_TYPE = "WrongType"
    """A key of the queue holds another type than BullMQ's."""


class RedisError(TorilError):
    """Redis did not carry out a call.

    Attributes:
        reason: machine-readable cause.
        temporary: whether the same call may succeed later without anybody changing anything.
    """

    def __init__(self, reason: RedisReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def temporary(self) -> bool:
        return self.reason not in (RedisReason.WRONG_TYPE, RedisReason.ENDPOINT_REFUSED)


class RedisUnavailableError(RedisError):
    """Redis could not be reached, or answered that it cannot serve now. The call had no effect or may be repeated."""


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
    """The job is not there (any more): never added, removed by retention, or removed by hand."""


class JobStateError(TorilError):
    """The job is not in the state that the operation needs."""


class ParentNotFoundError(JobNotFoundError):
    """The job that was to be the parent is not there; the child was not added.

    Attributes:
        parent_key: the parent's key in Redis.
    """

    def __init__(self, job_id: str, parent_key: str) -> None:
        super().__init__(f"job {job_id or '(new)'} was not added: there is no parent job {parent_key}")
        self.parent_key = parent_key


class ParentConflictError(JobStateError):
    """The job is there already, as a child of another job that lives; a job has one parent. It was not changed."""

    def __init__(self, job_id: str, parent_key: str) -> None:
        super().__init__(f"job {job_id} belongs to another parent than {parent_key}")
        self.parent_key = parent_key


class JobLockedError(JobStateError):
    """A worker runs the job, so it cannot be removed now. Try again when the job has ended."""


class JobFailedError(TorilError):
    """The awaited job failed for good. `str()` is its `failed_reason`; `stacktrace` is the remote one, oldest first."""

    def __init__(self, job_id: str, failed_reason: str, stacktrace: tuple[str, ...] = ()) -> None:
        super().__init__(failed_reason)
        self.job_id = job_id
        self.failed_reason = failed_reason
        self.stacktrace = stacktrace


class ResultTimeoutError(TorilError, TimeoutError):
    """The awaited job did not finish in the time given; it goes on."""


class UnrecoverableError(TorilError):
    """Raised by a processor: the job fails now, without another attempt."""


class JobSignalError(TorilError):
    """Raised by a processor to end its run without ending its job. No failure: the attempt does not count.

    `Job.move_to_delayed`, `move_to_wait`, `move_to_waiting_children` and `limit_rate` raise these. Let them through.
    """


class DelayJobError(JobSignalError):
    """The job is to run anew later."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the job is to run again in {seconds:g} s")
        self.seconds = seconds


class RequeueJobError(JobSignalError):
    """The job is to run anew as the next one."""


class WaitForChildrenError(JobSignalError):
    """The job is to run anew when its children have ended."""


class RateLimitedError(JobSignalError):
    """The queue has had enough for now: the job is to run anew, as the next one, when the limit is over.

    Attributes:
        seconds: how long nothing is to be taken; None = as `Queue.rate_limit` has said before.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__("the queue's rate limit is reached")
        self.seconds = seconds


class NoCurrentJobError(TorilError, LookupError):
    """`Job.current()` was used where no job is running, or where the call could never end."""


Unrecoverable = UnrecoverableError
"""Short alias, for writing `raise Unrecoverable("no such user")`."""


# ---- programs ------------------------------------------------------------------------------------------------------


class ProcessorLoadError(TorilError):
    """The processor's module could not be imported, or it serves no such queue; says which."""


class SettingsError(TorilError):
    """An environment variable or flag is missing or wrong; names it."""


# ---- Kubernetes ----------------------------------------------------------------------------------------------------


class KubeError(TorilError):
    """The API server refused a call. `str()` says which call, and the server's words.

    Attributes:
        status: HTTP status code; 0 = there was no answer.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KubeUnavailableError(KubeError):
    """No answer, or one that says "later" (429, 5xx), until the call's deadline; or a page of a list that has expired
    (410). The same call, or list, may be made again."""


class KubeNotFoundError(KubeError):
    """There is no such object, namespace or resource type (404)."""


class KubeConflictError(KubeError):
    """The object has changed, or another manager owns the field (409). Look again before writing again."""


class KubeForbiddenError(KubeError):
    """A right is missing, or admission refused (401, 403)."""


class KubeInvalidError(KubeError):
    """The object was refused as it is (400, 413, 415, 422)."""
