"""A job that was taken, and how an attempt at it ends: pure values. Their wire form is in `engine.scripts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toril.jobs.job import JobRecord, attempts_made_in, attempts_started_in
from toril.jobs.retention import KEEP_ALL, KeepPolicy


class TakenJob(JobRecord):
    """A job that we hold: its record at the start of this attempt, and the token of its lock."""

    # What is asked for more than once a job is read once: values in place of the record's properties.
    __slots__ = ("attempts_made", "attempts_started", "is_suspect", "new_fields", "token")
    attempts_made: int
    attempts_started: int

    def __init__(self, job_id: str, fields: dict[bytes, bytes], token: str, *, is_new: bool = False) -> None:
        """Args: fields: the job's hash as it is now; is_new: it was never started before, and is tied to nothing."""
        super().__init__(job_id, fields)
        self.token = token
        self.new_fields = len(fields) if is_new else 0
        self.is_suspect = not is_new and b"torilSuspect" in fields
        """Whether it was one of several jobs of a worker that vanished: it is to run alone."""
        self.attempts_made = attempts_made_in(fields)  # pyright: ignore[reportIncompatibleMethodOverride]
        self.attempts_started = attempts_started_in(fields)  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def data_bytes(self) -> int:
        return len(self._fields.get(b"data", b""))


Kind = Literal["completed", "failed", "retry", "requeue", "limit", "delay", "waiting-children"]


@dataclass(slots=True)
class Finish:
    """How one active job ends. Sending it twice is safe."""

    job: TakenJob
    kind: Kind
    value: str = ""
    """JSON return value of `completed`; plain reason of `failed` and `retry`."""
    stacktrace: str = "[]"
    """JSON array of texts, oldest first."""
    delay_ms: int = 0
    keep: KeepPolicy = KEEP_ALL
    attempts: int = 0
    """Attempts the job may have; decides whether `retries-exhausted` is told."""
    has_started: bool = True
    """Of a job that goes back to the front: if not, then its having been taken does not count as a start either."""
    is_repeated: bool = False
    """Whether it was sent before and not answered: it may have been carried out, and others may have the job by now."""

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
        """The attempt failed and another follows after `delay_ms`; 0 = as soon as it is its turn."""
        return cls(job, "retry", reason, stacktrace_json, delay_ms)

    @classmethod
    def requeue(cls, job: TakenJob, *, has_started: bool = True) -> Finish:
        """Back to the front of the line; the attempt does not count."""
        return cls(job, "requeue", has_started=has_started)

    @classmethod
    def limit(cls, job: TakenJob, duration_ms: int) -> Finish:
        """The same, and nothing is taken for `duration_ms`; 0 = for as long as somebody has said before."""
        return cls(job, "limit", delay_ms=duration_ms)

    @classmethod
    def delay(cls, job: TakenJob, delay_ms: int) -> Finish:
        """To be run anew after `delay_ms`; the attempt does not count."""
        return cls(job, "delay", delay_ms=delay_ms)

    @classmethod
    def wait_for_children(cls, job: TakenJob) -> Finish:
        """To be run anew when its children have ended, at once if they have; the attempt does not count.

        Refused with -9 when one has failed that fails its parent.
        """
        return cls(job, "waiting-children")
