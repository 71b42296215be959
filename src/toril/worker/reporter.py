"""Logs what happens to jobs and to Redis: failures always, successes in samples."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from toril import clock, errors
from toril.worker.attempt import Attempt
from toril.worker.finish_codes import is_refusal
from toril.worker.metrics import Metrics, outcome_of

LINES_PER_SECOND = 10
"""Finished jobs logged in a second; how many more there were stands in the next line."""
REPEAT_MS = 30_000
"""A failure of Redis that lasts is told again after this time."""

logger = logging.getLogger("toril.worker")


class Reporter:
    """One worker's account of itself."""

    def __init__(self, metrics: Metrics, endpoint: str) -> None:
        """Args: endpoint: of Redis, for people; without credentials."""
        self._metrics = metrics
        self._endpoint = endpoint
        self._second = 0
        self._lines = 0
        self._suppressed = 0
        self._failing_since_ms = 0
        self._logged = ""
        self._logged_ms = 0
        self.has_reached_redis = False
        self._refused: set[str] = set()

    def finished(self, runs: Sequence[Attempt]) -> None:
        """These ends are recorded."""
        logs_successes = logger.isEnabledFor(logging.INFO)
        second = clock.monotonic_ms() // 1000
        if second != self._second:
            self._second, self._lines = second, 0
        for run in runs:
            kind = run.outcome.kind
            if kind in ("failed", "retry"):
                self._log_failure(run)
            elif kind == "completed" and logs_successes:
                if self._lines < LINES_PER_SECOND:
                    self._log_success(run)
                else:
                    self._suppressed += 1

    def _log_success(self, run: Attempt) -> None:
        self._lines += 1
        fields = {**_fields(run), "outcome": "completed"}
        if self._suppressed:
            fields["suppressed"] = self._suppressed
            self._suppressed = 0
        _log(logging.INFO, "job finished", fields)

    def _log_failure(self, run: Attempt) -> None:
        finish = run.outcome
        fields = {**_fields(run), "error": finish.value}
        if run.error is not None:
            fields["error_type"] = type(run.error).__name__
        if finish.kind == "retry":
            fields |= {"outcome": "retry", "retry_in_ms": finish.delay_ms}
            _log(logging.WARNING, "attempt failed", fields)
        else:
            fields["outcome"] = outcome_of(run)
            _log(logging.WARNING, "job failed", fields)

    def lost(self, run: Attempt, why: str) -> None:
        """This run's result is not recorded."""
        _log(logging.WARNING, f"job lost: {why}", _fields(run))

    def given_back(self, runs: Sequence[Attempt]) -> None:
        """The drain was over before these jobs."""
        self._metrics.record_interrupted("drain_timeout", len(runs))
        for run in runs:
            _log(logging.WARNING, "job given back: not done when the worker had to stop", _fields(run))

    def recovered(self, job_ids: Sequence[str]) -> None:
        """Jobs of vanished workers are waiting again."""
        self._metrics.record_stalled("pod_lost", len(job_ids))
        for job_id in job_ids:
            _log(logging.WARNING, "job recovered: its worker is gone", {"job_id": job_id})

    def report_invalid_limits(self, fields: Sequence[str]) -> None:
        """These fields of the queue's `meta` are set, but no limit can be read from them; empty = all can again."""
        if fields:
            words = "limits of the queue are no numbers above 0: %s in `meta`; set or remove them"
            logger.warning(words, ", ".join(fields))
        else:
            logger.info("the limits of the queue can be read again")

    def redis_failed(self, problem: errors.RedisError) -> None:
        now_ms = clock.monotonic_ms()
        is_new = not self._failing_since_ms and str(problem) != self._logged
        self._failing_since_ms = self._failing_since_ms or now_ms
        if not is_new and self._logged and now_ms - self._logged_ms < REPEAT_MS:
            return
        self._logged, self._logged_ms = str(problem), now_ms
        fields = {"error_type": problem.reason.value, "endpoint": self._endpoint}
        logger.warning("Redis fails: %s", problem, extra=fields)

    def refused(self, what: str, problem: errors.RedisError) -> None:
        """A call of a kind (`calls`, `waits`) failed. Only a call of the same kind shows that a refusal is over."""
        if is_refusal(problem):
            self._refused.add(what)

    def accepted(self, what: str) -> None:
        """A call of this kind was carried out."""
        if what in self._refused:
            self._refused.discard(what)
            self.redis_works()

    def redis_works(self) -> None:
        """All that could be tried was carried out. No news while calls of some kind are refused."""
        if self._refused:
            return
        if self._failing_since_ms and self.has_reached_redis and self._logged_ms >= self._failing_since_ms:
            seconds = (clock.monotonic_ms() - self._failing_since_ms) / 1000
            logger.info("Redis works again after %.1f s", seconds)
        elif not self.has_reached_redis:
            logger.info("connected to Redis %s", self._endpoint)
        self.has_reached_redis = True
        self._failing_since_ms = 0

    def flagged(self, is_flagged: bool) -> None:
        """The worker is flagged in `toril:draining`, or its flag is gone."""
        if is_flagged:
            logger.info("takes no more jobs: this worker is to be removed")
        else:
            logger.info("takes jobs again: this worker is to stay")

    def loop_was_blocked(self, seconds: float) -> None:
        logger.warning(
            "the event loop stood still for %.1f s, and locks were not renewed: let blocking work run in a plain "
            "`def`, which gets a thread, not in an `async def` or with `inline=True`",
            seconds,
        )

    def close(self) -> None:
        """Tell what is left to tell."""
        if self._suppressed:
            logger.info("%d more jobs finished", self._suppressed, extra={"suppressed": self._suppressed})
            self._suppressed = 0


def _log(level: int, event: str, fields: Mapping[str, Any]) -> None:
    """Write a line about a job. Formatters that are not ours show the message alone: it says which job, and why."""
    job = " ".join(str(fields[key]) for key in ("job_name", "job_id") if key in fields)
    why = f": {fields['error']}" if "error" in fields else ""
    logger.log(level, "%s: %s%s", event, job, why, extra={"event": event, **fields})


def _fields(run: Attempt) -> dict[str, Any]:
    job = run.record
    return {
        "job_id": job.id,
        "job_name": job.name,
        "attempt": job.attempts_made + 1,
        "duration_ms": round(run.seconds * 1000, 1),
    }
