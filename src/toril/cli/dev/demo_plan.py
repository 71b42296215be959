"""What the demo adds and what has to become of it. Pure: the same number of jobs gives the same plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toril.jobs.job import JobRecord, JobState

QUEUES = ("page-save", "image-upload")
"""The queues that the demo has data for: those of `examples/zettanote`."""

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_LONGEST_DELAY_MS = 8000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedJob:
    """One job of the demo and how it has to end."""

    queue: str
    name: str
    data: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Its own options under BullMQ's names; the queue's `defaultJobOptions` come on top of these."""
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
        attempts, more = 3, {"failTimes": 2}
    elif place in (3, 8, 38, 68):
        attempts, more = 2, {"failTimes": 1}
    elif place % 12 == 6:
        options = {"delay": 1500 + (number * 997) % (_LONGEST_DELAY_MS - 1500)}
    elif place % 8 == 7:
        options = {"priority": 1 + number % 3}
    return PlannedJob(queue=queue, name=queue, data={**data, **more}, options=options, end=end, attempts=attempts)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: `job` is None when it is gone; `log_rows` its function wrote, one at each start."""

    job: JobRecord | None
    state: JobState
    log_rows: Sequence[str]


def differences(planned: PlannedJob, job_id: str, outcome: Outcome) -> Iterator[str]:
    """Everything in which a job did not go as planned, one line each."""
    name = f"{planned.queue} job {job_id}"
    if outcome.job is None:
        yield f"{name}: is gone"
        return
    if outcome.state != planned.end:
        reason = outcome.job.failed_reason
        yield f"{name}: is {outcome.state}, planned was {planned.end}" + (f" ({reason})" if reason else "")
    runs = len(outcome.log_rows)
    if runs != planned.attempts:
        yield f"{name}: its function ran {runs} times, planned was {planned.attempts}"
    if outcome.job.attempts_made != planned.attempts:
        yield f"{name}: {outcome.job.attempts_made} attempts were counted, planned was {planned.attempts}"


def count_ends(events: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How often each job ended.

    Args:
        events: (kind, job id) of a queue's event stream.
    """
    ends: dict[str, int] = {}
    for kind, job_id in events:
        if kind in ("completed", "failed"):
            ends[job_id] = ends.get(job_id, 0) + 1
    return ends
