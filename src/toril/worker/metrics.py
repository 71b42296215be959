"""What a worker counts about its jobs. Counting is cheap; the Prometheus client is imported when somebody asks."""

from __future__ import annotations

import bisect
import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toril import __version__
from toril.worker.attempt import Attempt

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MAX_JOB_NAMES = 50
"""Job names beyond these are counted together, so that names made from data cannot flood the monitoring."""
OTHER = "_other"
WAIT_BOUNDS = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
RUN_BOUNDS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the histograms' buckets, seconds; one more has no bound."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts by bucket, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """`[(upper bound, jobs up to it)]`, as Prometheus has it."""
        found, so_far = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            so_far += count
            found.append((bound, float(so_far)))
        return found


class JobCounts:
    """The counts of one job name."""

    __slots__ = ("attempts", "completed", "failed", "run", "wait")

    def __init__(self) -> None:
        self.attempts = 0
        self.completed = 0
        self.failed: collections.Counter[str] = collections.Counter()
        self.run = {"completed": Histogram(RUN_BOUNDS), "failed": Histogram(RUN_BOUNDS)}
        self.wait = Histogram(WAIT_BOUNDS)


class Metrics:
    """The counts of one worker, and their exposition."""

    def __init__(self, labels: Mapping[str, str], slots: Callable[[], Mapping[str, int]]) -> None:
        """Args:
        labels: on every metric: namespace, jobqueue, queue, as far as they are known.
        slots: tells the slots by state when asked.
        """
        self._labels = dict(labels)
        self._slots = slots
        self._jobs: dict[str, JobCounts] = {}
        self.stalled: dict[str, int] = {}
        self.interrupted: dict[str, int] = {}
        self.stuck_schedulers = 0

    def finished(self, runs: Sequence[Attempt]) -> None:
        """Count attempts whose ends are recorded."""
        jobs = self._jobs
        for run in runs:
            job, kind = run.record, run.outcome.kind
            if kind not in ("completed", "failed", "retry"):
                continue
            counts = jobs.get(job.name) or self._counts(job.name)
            counts.attempts += 1
            counts.run["completed" if kind == "completed" else "failed"].add(run.seconds)
            if job.attempts_started == 1:
                counts.wait.add(wait_seconds(run))
            if kind == "completed":
                counts.completed += 1
            elif kind == "failed":
                counts.failed[outcome_of(run)] += 1

    def record_stalled(self, reason: str, jobs: int = 1) -> None:
        self.stalled[reason] = self.stalled.get(reason, 0) + jobs

    def record_interrupted(self, reason: str, jobs: int) -> None:
        self.interrupted[reason] = self.interrupted.get(reason, 0) + jobs

    def record_stuck_schedulers(self, number: int) -> None:
        self.stuck_schedulers = number

    def exposition(self) -> bytes:
        """Everything as Prometheus reads it. The first call imports the client: make it in a thread."""
        from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """The metrics, for a Prometheus registry."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        names, values = list(self._labels), list(self._labels.values())
        attempts = CounterMetricFamily(
            "toril_attempts", "Attempts at jobs that have ended.", labels=[*names, "job_name"]
        )
        finished = CounterMetricFamily(
            "toril_jobs_finished", "Jobs that have ended for good.", labels=[*names, "job_name", "outcome"]
        )
        run = HistogramMetricFamily(
            "toril_job_run_seconds", "How long attempts ran.", labels=[*names, "job_name", "outcome"]
        )
        wait = HistogramMetricFamily(
            "toril_job_wait_seconds", "From when a job could run to its first start.", labels=[*names, "job_name"]
        )
        # Counting goes on in the loop's thread meanwhile.
        for name, counts in tuple(self._jobs.items()):
            attempts.add_metric([*values, name], counts.attempts)
            wait.add_metric([*values, name], counts.wait.cumulative(), counts.wait.total)
            for outcome, histogram in counts.run.items():
                run.add_metric([*values, name, outcome], histogram.cumulative(), histogram.total)
            for outcome, jobs in (("completed", counts.completed), *counts.failed.items()):
                if jobs:
                    finished.add_metric([*values, name, outcome], jobs)
        yield from (attempts, finished, run, wait)
        by_reason: list[tuple[str, str, Mapping[str, int]]] = [
            ("toril_stalled", "Jobs whose lock ran out.", self.stalled),
            ("toril_interrupted", "Jobs that were given back before they ended.", self.interrupted),
        ]
        for metric, text, counted in by_reason:
            family: Any = CounterMetricFamily(metric, text, labels=[*names, "reason"])
            for reason, jobs in tuple(counted.items()):
                family.add_metric([*values, reason], jobs)
            yield family
        slots = GaugeMetricFamily("toril_worker_slots", "Jobs that can run at the same time.", labels=[*names, "state"])
        for state, number in self._slots().items():
            slots.add_metric([*values, state], number)
        yield slots
        stuck = GaugeMetricFamily(
            "toril_job_schedulers_stuck", "Job schedulers whose series cannot be carried on.", labels=names
        )
        stuck.add_metric(values, self.stuck_schedulers)
        yield stuck
        build = GaugeMetricFamily("toril_build_info", "Version of this worker.", labels=[*names, "version"])
        build.add_metric([*values, __version__], 1)
        yield build

    def _counts(self, name: str) -> JobCounts:
        counts = self._jobs.get(name)
        if counts is None:
            if len(self._jobs) >= MAX_JOB_NAMES:
                name = OTHER
            counts = self._jobs.setdefault(name, JobCounts())
        return counts


def outcome_of(run: Attempt) -> str:
    """How a job ended for good: completed, failed, or exhausted (failed at the last of several attempts)."""
    finish = run.outcome
    if finish.kind == "failed" and 1 < finish.attempts <= run.record.attempts_made + 1:
        return "exhausted"
    return finish.kind


def wait_seconds(run: Attempt) -> float:
    """How long a job waited for its start, not counting a delay that was asked for."""
    job = run.record
    started_ms = job.processed_on_ms or 0
    return max(0, started_ms - job.timestamp_ms - run.rules.delay_ms) / 1000
