"""What a queue is, in plain Python: the same commands as the engine's, on lists and sets.

Written from the rules, not from the scripts. Lines have the next job first. Where the rules leave an order open (a set
of stalled jobs, a tie between moments), the engine's answer decides and is only checked to be one of the allowed.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

TOO_OFTEN = "job stalled more than allowable limit"


@dataclass(slots=True)
class ModelJob:
    """A job that is stored."""

    id: str
    priority: int = 0
    is_lifo: bool = False
    fields: dict[str, str] = field(default_factory=dict)
    """Of its hash, but for moments, options and the worker's name."""
    logs: list[str] = field(default_factory=list)
    lock: str | None = None
    is_finished: bool = False

    def count(self, name: str) -> int:
        return int(self.fields.get(name, 0))

    def add_one(self, name: str) -> None:
        self.fields[name] = str(self.count(name) + 1)


@dataclass(frozen=True, slots=True)
class End:
    """How one attempt ends."""

    job_id: str
    token: str
    ats: int
    """Attempts started, as of the take that this end belongs to."""
    atm: int
    kind: str
    value: str = "x"
    delay_ms: int = 0
    attempts: int = 0


class QueueModel:
    """One queue. Commands return what the engine should answer; `events` are those that they emit."""

    def __init__(self, layout: str) -> None:
        self.layout = layout
        self.is_paused = False
        self.concurrency: int | None = None
        self.was_limited = False
        """A queue that was ever at its limit may have left no wake-up, as in BullMQ."""
        self.number = 0
        self.arrivals = 0
        self.jobs: dict[str, ModelJob] = {}
        self.wait: list[str] = []
        self.paused: list[str] = []
        self.prioritized: list[tuple[int, int, str]] = []
        """Priority, arrival (0 = in front of its class), id."""
        self.due: dict[str, tuple[int, int]] = {}
        """Delayed jobs whose time has come → when, and place within that millisecond."""
        self.later: set[str] = set()
        """Delayed jobs whose time has not come."""
        self.active: list[str] = []
        self.finished: dict[str, set[str]] = {"completed": set(), "failed": set()}
        self.stalled: set[str] = set()
        self.events: list[tuple[str, str]] = []

    # ---- looking

    @property
    def is_maxed(self) -> bool:
        return self.concurrency is not None and len(self.active) >= self.concurrency

    @property
    def runnable(self) -> int:
        return len(self.wait) + len(self.paused) + len(self.prioritized)

    def line(self, layout: str | None = None) -> list[str]:
        """Where a runnable job without a priority goes. Args: layout: of the client, if it is not the queue's."""
        is_kept_apart = (layout or self.layout) == "5" or self.paused
        return self.paused if self.is_paused and is_kept_apart else self.wait

    def counts(self) -> dict[str, int]:
        return {
            "waiting": len(self.wait) + len(self.paused),
            "active": len(self.active),
            "delayed": len(self.due) + len(self.later),
            "prioritized": len(self.prioritized),
            "waiting-children": 0,
            **{state: len(ids) for state, ids in self.finished.items()},
        }

    # ---- producers

    def add(
        self,
        job_id: str | None = None,
        *,
        data: str = "{}",
        priority: int = 0,
        lifo: bool = False,
        due_ms: int | None = None,
        later_ms: int = 0,
        layout: str | None = None,
    ) -> str:
        """Args: due_ms: delayed until this moment, which is past; later_ms: delayed beyond the test's end."""
        self.number += 1
        job_id = job_id or str(self.number)
        if job_id in self.jobs:
            self.events.append(("duplicated", job_id))
            return job_id
        delay = 1 if due_ms is not None else later_ms
        fields = {"name": "n", "data": data, "priority": str(priority), "delay": str(delay)}
        self.jobs[job_id] = ModelJob(job_id, priority, lifo, fields)
        self.events.append(("added", job_id))
        if due_ms is not None:
            self._delay_until(job_id, due_ms)
            self.events.append(("delayed", job_id))
        elif later_ms:
            self.later.add(job_id)
            self.events.append(("delayed", job_id))
        else:
            self._make_runnable(self.jobs[job_id], in_front=lifo, layout=layout)
        return job_id

    def pause(self) -> bool:
        was_running = not self.is_paused
        if self.layout == "5" or self.paused:
            self.paused = self.wait + self.paused
            self.wait = []
        self.is_paused = True
        if was_running:
            self.events.append(("paused", ""))
        return was_running

    def resume(self) -> bool:
        was_paused = self.is_paused
        self.wait = self.paused + self.wait
        self.paused = []
        self.is_paused = False
        if was_paused:
            self.events.append(("resumed", ""))
        return was_paused

    def time_passes(self, job_id: str, due_ms: int) -> None:
        """A delayed job's time comes."""
        self.later.discard(job_id)
        self._delay_until(job_id, due_ms)

    # ---- from outside

    def promote(self, job_id: str) -> bool:
        """Whether the job was delayed; it runs now."""
        if job_id not in self.later and job_id not in self.due:
            return False
        self.later.discard(job_id)
        self.due.pop(job_id, None)
        self.jobs[job_id].fields["delay"] = "0"
        self._make_runnable(self.jobs[job_id])
        return True

    def retry(self, job_id: str, kind: str) -> bool:
        """Whether the job had ended so; it runs again, in BullMQ 5's layout without its priority."""
        if job_id not in self.finished[kind]:
            return False
        job = self.jobs[job_id]
        self.finished[kind].remove(job_id)
        job.is_finished = False
        job.fields.pop("returnvalue" if kind == "completed" else "failedReason", None)
        if job.priority and self.layout == "5":
            self.line().insert(0 if job.is_lifo else len(self.line()), job_id)
            self.events.append(("waiting", job_id))
        else:
            self._make_runnable(job, in_front=job.is_lifo)
        return True

    def remove(self, job_id: str) -> bool:
        """Whether no worker holds the job, which is then removed."""
        job = self.jobs.get(job_id)
        if job is None:
            return True
        if job.lock is not None:
            return False
        for line in (self.wait, self.paused, self.active):
            if job_id in line:
                line.remove(job_id)
        self.prioritized = [each for each in self.prioritized if each[2] != job_id]
        self.due.pop(job_id, None)
        for ids in (self.later, *self.finished.values()):
            ids.discard(job_id)
        del self.jobs[job_id]
        self.events.append(("removed", job_id))
        return True

    # ---- workers

    def take(self, count: int, token: str) -> tuple[list[str], bool]:
        """Ids, in order, and whether the next due time is returned."""
        if self.is_paused and self.line() is self.paused:
            # What clients of the other layout have left in the wrong list is next in line.
            self.paused = self.wait + self.paused
            self.wait = []
        self._promote_due()
        if self.is_paused or self.is_maxed:
            return [], False
        if self.concurrency is not None:
            count = min(count, self.concurrency - len(self.active))
        taken, self.wait = self.wait[:count], self.wait[count:]
        left = count - len(taken)
        if left:
            taken += [job_id for _, _, job_id in self.prioritized[:left]]
            del self.prioritized[:left]
        for job_id in taken:
            job = self.jobs[job_id]
            job.lock = token
            job.add_one("ats")
            self.active.append(job_id)
            self.events.append(("active", job_id))
        return taken, not taken and bool(self.later)

    def finish(self, ends: Sequence[End], keep: int | None) -> list[int]:
        """End jobs, none of them twice. Args: keep: how many finished jobs of a kind are kept; None = all."""
        codes = [self._refusal(end) for end in ends]
        for end, code in zip(ends, codes, strict=True):
            if code == 0:
                self._end(end, keep)
        return codes

    def tell_drained(self, ends: Sequence[End], codes: Sequence[int], took: bool, is_blocked: bool) -> None:
        """After a call that ended jobs and then, if it `took`, looked for more and found none."""
        is_final = any(code == 0 and end.kind in ("completed", "failed") for end, code in zip(ends, codes, strict=True))
        knows_of_more = took and (is_blocked or bool(self.later))
        if is_final and not knows_of_more and not (self.wait or self.active or self.prioritized):
            self.events.append(("drained", ""))

    def keep_newest(self, kind: str, count: int) -> int:
        """How many of a kind retention has to leave."""
        return min(count, len(self.finished[kind]))

    def extend(self, job_id: str, token: str, ats: int) -> bool:
        """Whether the job is still this holder's."""
        job = self.jobs.get(job_id)
        if job is None:
            return False
        may_retake = job.lock is None and job.count("ats") == ats and job_id in self.active
        if job.lock != token and not may_retake:
            return False
        job.lock = token
        self.stalled.discard(job_id)
        return True

    def stalled_jobs(self) -> set[str]:
        """Whom a check gives back now."""
        return {job_id for job_id in self.stalled & set(self.active) if self.jobs[job_id].lock is None}

    def give_back_stalled(self, in_order: Sequence[str], max_stalled_count: int) -> None:
        for job_id in in_order:
            job = self.jobs[job_id]
            self.active.remove(job_id)
            job.add_one("stc")
            if job.count("stc") > max_stalled_count:
                job.fields["defa"] = TOO_OFTEN
            self.line().insert(0, job_id)
            self.events += [("waiting", job_id), ("stalled", job_id)]
        self.stalled = set(self.active)

    def remove_finished(self, kind: str, job_id: str) -> None:
        self.finished[kind].discard(job_id)
        del self.jobs[job_id]

    # ---- inside

    def _delay_until(self, job_id: str, due_ms: int) -> None:
        places = [place for moment, place in self.due.values() if moment == due_ms]
        self.due[job_id] = (due_ms, max(places, default=-1) + 1)

    def _promote_due(self) -> None:
        for job_id in sorted(self.due, key=lambda each: self.due[each]):
            job = self.jobs[job_id]
            job.fields["delay"] = "0"
            self._make_runnable(job)
        self.due.clear()

    def _make_runnable(self, job: ModelJob, *, in_front: bool = False, layout: str | None = None) -> None:
        if job.priority:
            self.arrivals += 1
            bisect.insort(self.prioritized, (job.priority, self.arrivals, job.id))
        elif in_front:
            self.line(layout).insert(0, job.id)
        else:
            self.line(layout).append(job.id)
        self.events.append(("waiting", job.id))

    def _refusal(self, end: End) -> int:
        job = self.jobs.get(end.job_id)
        if job is None:
            return -1
        if job.lock == end.token:
            return 0
        if job.lock is not None:
            return -6
        is_same_run = job.count("ats") == end.ats
        was_retried = end.kind == "retry" and job.count("atm") == end.atm + 1
        was_ended = end.kind in ("completed", "failed") and job.is_finished
        return 1 if is_same_run and (was_retried or was_ended) else -2

    def _end(self, end: End, keep: int | None) -> None:
        job = self.jobs[end.job_id]
        self.active.remove(job.id)
        self.stalled.discard(job.id)
        job.lock = None
        if end.kind == "requeue":
            if job.priority:
                bisect.insort(self.prioritized, (job.priority, 0, job.id))
            else:
                self.line().insert(0, job.id)
            self.events.append(("waiting", job.id))
            return
        job.add_one("atm")
        if end.kind == "retry":
            job.fields |= {"failedReason": end.value, "stacktrace": "[]"}
            if end.delay_ms:
                job.fields["delay"] = str(end.delay_ms)
                self.later.add(job.id)
                self.events.append(("delayed", job.id))
            else:
                self._promote_due()
                self._make_runnable(job, in_front=job.is_lifo)
            return
        self.events.append((end.kind, job.id))
        if end.kind == "completed":
            job.fields["returnvalue"] = end.value
        else:
            job.fields |= {"failedReason": end.value, "stacktrace": "[]"}
            job.fields.pop("defa", None)
            if job.count("atm") >= end.attempts:
                self.events.append(("retries-exhausted", job.id))
        job.is_finished = True
        self.finished[end.kind].add(job.id)
        if keep == 0:
            self.remove_finished(end.kind, job.id)
