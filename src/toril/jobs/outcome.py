"""A job that a worker has taken, and how its attempt ends: pure values. `engine.scripts.worker` has their wire form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toril.jobs.job import JobRecord, attempts_made_in, attempts_started_in
from toril.jobs.retention import KEEP_ALL, KeepPolicy

LOCK_MS = 30_000
"""How long a lock on a taken job lives, when no setting says otherwise: BullMQ's `lockDuration`."""
STALLED_INTERVAL_MS = 30_000
"""The least time between two checks for stalled jobs of a queue, when no setting says otherwise: BullMQ's
`stalledInterval`."""


class TakenJob(JobRecord):
    """A job that this worker holds: the job's hash when it was taken, and the token of its lock."""

    # These are read more than once a job, so they are attributes here and not properties that parse the hash each time.
    __slots__ = ("attempts_made", "attempts_started", "is_suspect", "new_fields", "token")
    attempts_made: int
    attempts_started: int

    def __init__(self, job_id: str, fields: dict[bytes, bytes], token: str, *, is_new: bool = False) -> None:
        """Args:
        fields: the job's hash.
        is_new: the job was never started, and has neither parent, scheduler nor deduplication.
        """
        super().__init__(job_id, fields)
        self.token = token
        self.new_fields = len(fields) if is_new else 0
        self.is_suspect = not is_new and b"torilSuspect" in fields
        """Whether a worker died that ran this job beside others: the job has to run alone, to find out which one it
        was."""
        made, started = (0, 1) if is_new else (attempts_made_in(fields), attempts_started_in(fields))
        self.attempts_made = made  # pyright: ignore[reportIncompatibleMethodOverride]
        self.attempts_started = started  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def data_bytes(self) -> int:
        return len(self._fields.get(b"data", b""))


Kind = Literal["completed", "failed", "retry", "requeue", "limit", "delay", "waiting-children"]
"""Where an active job goes. `completed`, `failed`: to the set of that name. `retry`: the attempt has failed and another
follows, after a pause. `requeue`: to the front of `wait`. `limit`: likewise, and the queue is rate-limited. `delay`: to
`delayed`. `waiting-children`: to that set, or to the front of `wait` if no child is pending. The last four are no
attempts."""


@dataclass(slots=True)
class Finish:
    """How one active job ends. A repeated send changes nothing: the lock's token is checked."""

    job: TakenJob
    kind: Kind
    value: str = ""
    """JSON return value of `completed`; plain reason of `failed` and `retry`."""
    stacktrace: str = "[]"
    """JSON array of tracebacks, oldest first."""
    delay_ms: int = 0
    """Pause of `retry` and `delay`; length of `limit`."""
    keep: KeepPolicy = KEEP_ALL
    attempts: int = 0
    """Attempts that the job may have; with more than one, a failure also emits the event `retries-exhausted`."""
    has_started: bool = True
    """Of `requeue`: False for a job that was taken and never started; its `ats` is lowered again."""
    is_repeated: bool = False
    """Whether an earlier send had no reply: it may have been carried out, and another worker may hold the job now."""

    @classmethod
    def completed(cls, job: TakenJob, return_value_json: str, keep: KeepPolicy = KEEP_ALL) -> Finish:
        return cls(job, "completed", return_value_json, keep=keep)

    @classmethod
    def failed(
        cls, job: TakenJob, reason: str, stacktrace_json: str, keep: KeepPolicy = KEEP_ALL, *, attempts: int = 0
    ) -> Finish:
        return cls(job, "failed", reason, stacktrace_json, keep=keep, attempts=attempts)

    @classmethod
    def retry(cls, job: TakenJob, reason: str, stacktrace_json: str, delay_ms: int) -> Finish:
        """The attempt failed; another follows after `delay_ms`. 0: the job goes to the queue's line at once."""
        return cls(job, "retry", reason, stacktrace_json, delay_ms)

    @classmethod
    def requeue(cls, job: TakenJob, *, has_started: bool = True) -> Finish:
        """Put the job back to the front of the line; the attempt does not count."""
        return cls(job, "requeue", has_started=has_started)

    @classmethod
    def limit(cls, job: TakenJob, duration_ms: int) -> Finish:
        """Requeue, and rate-limit the queue for `duration_ms`; 0 keeps the limit that `rateLimit` has set."""
        return cls(job, "limit", delay_ms=duration_ms)

    @classmethod
    def delay(cls, job: TakenJob, delay_ms: int) -> Finish:
        """Run the job anew after `delay_ms`; the attempt does not count."""
        return cls(job, "delay", delay_ms=delay_ms)

    @classmethod
    def wait_for_children(cls, job: TakenJob) -> Finish:
        """Run the job anew when its children have ended, at once if none is pending; the attempt does not count.

        The script answers -9 when a child has failed whose failure fails the parent.
        """
        return cls(job, "waiting-children")
