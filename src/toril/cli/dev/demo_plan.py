"""The jobs that the demo adds, and how each has to end. Pure: the same number of jobs gives the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toril.jobs.job import JobRecord, JobState

QUEUES = ("page-save", "image-upload")
"""The queues that the demo has data for: those of `examples/zettanote`."""

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_LONGEST_DELAY_MS = 8000
MOST_ATTEMPTS = 3
"""Most attempts that a planned job needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One job of the demo and how it has to end."""

    queue: str
    name: str
    data: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its own options under BullMQ's names, on top of the queue's `defaultJobOptions`."""
    end: JobState = JobState.COMPLETED
    attempts: int = 1
    """How often its function has to run in all."""

    @property
    def is_delayed(self) -> bool:
        return "delay" in self.options

    @property
    def is_prioritized(self) -> bool:
        return "priority" in self.options


def build_plan(total: int) -> list[PlannedJob]:
    """Two page saves to one image upload. Of a hundred: 4 fail once, 2 twice, 1 for good; 8 delayed, 12 prioritized."""
    return [_image_upload(number) if number % 3 == 2 else _page_save(number) for number in range(total)]


def _page_save(number: int) -> PlannedJob:
    data: dict[str, Any] = {
        "pageId": f"page-{number}",
        "oldPageData": f"# Page {number}\n\n![old](image:img-{number})",
        "newPageData": f"# Page {number}\n\nEdited.\n\n![new](image:img-{number}-b)",
        "userId": f"user-{number % 7}",
    }
    return _with_fate(number, "page-save", data, {"invalid": True})


def _image_upload(number: int) -> PlannedJob:
    data = {
        "image": _PIXEL,
        "originalName": f"photo-{number}.png",
        "pageId": f"page-{number}",
        "userId": f"user-{number % 7}",
    }
    # "no image" in base64: decodes well and is none.
    return _with_fate(number, "image-upload", data, {"image": "bm8gaW1hZ2U="})


def _with_fate(number: int, queue: str, data: Mapping[str, Any], spoiled: Mapping[str, Any]) -> PlannedJob:
    """Spread the special cases over the numbers: each has its place within a hundred, early, for small plans."""
    place = number % 100
    end, attempts, more, options = JobState.COMPLETED, 1, {}, {}
    if place == 4:
        end, more = JobState.FAILED, dict(spoiled)
    elif place in (1, 5):
        attempts, more = MOST_ATTEMPTS, {"failTimes": MOST_ATTEMPTS - 1}
    elif place in (3, 8, 38, 68):
        attempts, more = 2, {"failTimes": 1}
    elif place % 12 == 6:
        options = {"delay": 1500 + (number * 997) % (_LONGEST_DELAY_MS - 1500)}
    elif place % 8 == 7:
        options = {"priority": 1 + number % 3}
    return PlannedJob(queue=queue, name=queue, data={**data, **more}, options=options, end=end, attempts=attempts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended. `job` is None when it is gone; `log_rows`: its function writes one at each start."""

    job: JobRecord | None
    state: JobState
    log_rows: Sequence[str]


def differences(planned: PlannedJob, job_id: str, outcome: Outcome, ends: int) -> Iterator[str]:
    """One line for each difference between a job and its plan.

    Args:
        ends: number of events of the job's end.
    """
    name = f"{planned.queue} job {job_id}"
    if outcome.job is None:
        yield f"{name}: is gone"
        return
    if outcome.state != planned.end:
        reason = outcome.job.failed_reason
        yield f"{name}: is {outcome.state}, planned was {planned.end}" + (f" ({reason})" if reason else "")
    elif ends != 1:
        yield f"{name}: ended {ends} times"
    runs = len(outcome.log_rows)
    if runs != planned.attempts:
        yield f"{name}: its function ran {runs} times, planned was {planned.attempts}"
    if outcome.job.attempts_made != planned.attempts:
        yield f"{name}: counted attempts are {outcome.job.attempts_made}, planned was {planned.attempts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSummary:
    """How the jobs of one queue ended."""

    queue: str
    planned: Mapping[str, PlannedJob]
    outcomes: Mapping[str, Outcome]
    scaling: Sequence[int]

    @property
    def start_ms(self) -> int | None:
        """From the first add to the first start of a function; None when none has started."""
        jobs = [outcome.job for outcome in self.outcomes.values() if outcome.job is not None]
        starts = [started for job in jobs if (started := job.processed_on_ms) is not None]
        return max(0, min(starts) - min(job.timestamp_ms for job in jobs)) if starts else None

    def count(self, state: JobState) -> int:
        return sum(outcome.state == state for outcome in self.outcomes.values())

    @property
    def runs(self) -> int:
        return sum(len(outcome.log_rows) for outcome in self.outcomes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSummary:
    """How the first run of one schedule ended."""

    name: str
    job_id: str
    state: JobState
    next_slot: str
    """For people."""

    @property
    def problem(self) -> str | None:
        if self.state is JobState.COMPLETED:
            return None
        return f"schedule {self.name}: its run {self.job_id} is {self.state}, planned was {JobState.COMPLETED}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The report of the demo."""

    seconds: float
    queues: Sequence[QueueSummary]
    schedules: Sequence[ScheduleSummary] = ()

    @property
    def jobs(self) -> int:
        return sum(len(queue.planned) for queue in self.queues)

    def lines(self) -> Iterator[str]:
        """The report for people: a block for each queue."""
        for queue in self.queues:
            jobs = list(queue.planned.values())
            failed = sum(job.end is JobState.FAILED for job in jobs)
            once, twice = (sum(job.attempts == attempts for job in jobs) for attempts in (2, 3))
            delayed, prioritized = sum(job.is_delayed for job in jobs), sum(job.is_prioritized for job in jobs)
            yield ""
            yield queue.queue
            yield f"  jobs           {len(jobs)}, of these {delayed} delayed and {prioritized} prioritized"
            yield f"  completed      {queue.count(JobState.COMPLETED)} of {len(jobs) - failed} planned"
            yield f"  failed         {queue.count(JobState.FAILED)} of {failed} planned (invalid data, never retried)"
            yield f"  retried        {once} after one failure, {twice} after two"
            yield f"  function runs  {queue.runs} for {sum(job.attempts for job in jobs)} planned attempts"
            yield f"  workers        {' → '.join(map(str, queue.scaling))}"
            if queue.start_ms is not None:
                yield f"  first start    {queue.start_ms / 1000:.1f} s after adding, with no worker there before"
        if self.schedules:
            yield ""
            yield "schedules"
        for schedule in self.schedules:
            yield f"  {schedule.name:<14} runOnCreate: {schedule.state}; next slot {schedule.next_slot}"
