"""Scripts of job schedulers, and of the promotion of delayed jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from toril.engine.keys import QueueKeys
from toril.engine.redis.connection import Call, Part
from toril.engine.scripts.shared import Layout
from toril.jobs.cron_dialect import Dialect

if TYPE_CHECKING:
    # Producers load the scripts, and none of what schedulers are made of.
    from toril.jobs.schedule import Schedule
    from toril.jobs.scheduler import JobTemplate, NextJob, SchedulerRecord

MADE, CHANGED, THERE_ALREADY = 0, 1, 2
"""Codes of `advance_schedulers` and `upsert_scheduler`; see there."""


@dataclass(frozen=True, slots=True)
class SchedulersRead:
    """What a read of schedulers brought."""

    now_ms: int
    """Redis's clock, Unix milliseconds."""
    next_slot_ms: int | None
    """The first slot of the queue that has not come yet."""
    records: list[SchedulerRecord]


@dataclass(frozen=True, slots=True)
class Upsert:
    """A scheduler as it is to be stored, computed from what was seen."""

    scheduler_id: str
    schedule: Schedule
    template: JobTemplate
    seen_ms: int | None
    """The slot seen; None = there was no such scheduler."""
    slot_ms: int
    keeps_slot: bool
    """Whether the slot of an armed job is kept: its interval is the same."""
    begins_anew: bool = False
    """Whether the slots of an interval are counted from this one, whatever was stored before."""
    made: int | None = None
    """How many jobs were made before this one; None = as BullMQ counts."""

    def args(self) -> list[Part]:
        from toril.jobs import scheduler

        schedule, template = self.schedule, self.template
        derived = self.slot_ms % schedule.every_ms if schedule.every_ms else 0
        offset: Part = schedule.offset_ms or (derived if self.begins_anew else "")
        new_offset = schedule.offset_ms or derived
        fields: list[Part] = []
        for name, value in schedule.to_bullmq().items():
            if name != "offset":
                fields += [name, value]
        if self.made is not None:
            fields += ["ic", self.made + 1]
        first_opts = scheduler.first_opts(schedule, template, self.scheduler_id, made=self.made or 0)
        return [
            self.scheduler_id,
            "" if self.seen_ms is None else self.seen_ms,
            self.slot_ms,
            "1" if self.keeps_slot else "0",
            _open(first_opts),
            _slot_job_id_start(self.scheduler_id),
            "1" if schedule.pattern else "0",
            template.priority,
            "1" if template.lifo else "0",
            template.name or self.scheduler_id,
            template.data_json,
            scheduler.opts_json(template.opts) if template.opts else "",
            offset,
            new_offset,
            *fields,
        ]


def read_schedulers(keys: QueueKeys, which: Literal["ids", "rank", "due"], *args: Part) -> Call[SchedulersRead]:
    """Read schedulers and the jobs of their current slots.

    Args:
        which: `ids`: those named; others are left out. `rank`: from the first rank to the last (−1 = to the end), the
            next slot first. `due`: those whose current slot has come: how many to pass over, and how many at most.
    """
    return Call("read_schedulers", [keys.meta], [keys.base, which, *args], _read)


def upsert_scheduler(keys: QueueKeys, upsert: Upsert, *, layout: Layout = "6") -> Call[tuple[int, int]]:
    """Store a scheduler and make its job; answers a code and the slot. Source: BullMQ 6.7 `addJobScheduler`; an armed
    job is found in every list of a paused queue, and a slot that has a job is reported instead of passed over."""

    def parse(reply: Any) -> tuple[int, int]:
        return reply[0], int(reply[1]) if len(reply) > 1 else 0

    return Call("upsert_scheduler", [keys.meta], [keys.base, layout, *upsert.args()], parse)


def advance_schedulers(keys: QueueKeys, jobs: Sequence[NextJob], *, layout: Layout = "6") -> Call[list[int]]:
    """Make next jobs; answers a code for each. Source: BullMQ 6.7 `updateJobScheduler`, for many and by anybody."""
    args: list[Part] = [keys.base, layout]
    for job in jobs:
        args += [
            job.scheduler_id,
            job.after_ms,
            job.slot_ms,
            _open(job.opts),
            _slot_job_id_start(job.scheduler_id),
            job.priority,
            "1" if job.lifo else "0",
            job.name,
            job.data_json,
            job.deduplication_id,
        ]
    return Call("advance_schedulers", [keys.meta], args, list)


def remove_scheduler(keys: QueueKeys, scheduler_id: str) -> Call[bool]:
    """Remove a scheduler; answers whether it was there."""
    return Call("remove_scheduler", [keys.meta], [keys.base, scheduler_id], bool)


def promote_due(keys: QueueKeys, *, layout: Layout = "6") -> Call[tuple[int, int | None]]:
    """Move due jobs to where they run from; answers how many, and when the first that is left is due."""
    return Call("promote_due", [keys.meta], [keys.base, layout], lambda reply: (reply[0], reply[1] or None))


def _open(opts: Any) -> str:
    """JSON of an object without its closing brace: what depends on the moment of storing is put on in the script."""
    from toril.jobs import scheduler

    return scheduler.opts_json(opts)[:-1]


def _slot_job_id_start(scheduler_id: str) -> str:
    """JSON of the text with which the ids of a scheduler's jobs begin, without its closing quotation mark.

    The script puts on the slot (Unix ms) and the mark, since it may move the slot.
    """
    from toril.jobs import scheduler

    return json.dumps(scheduler.slot_job_id_start(scheduler_id), ensure_ascii=False)[:-1]


def _read(reply: Any) -> SchedulersRead:
    now_ms, coming, client, *entries = reply
    writer = Dialect.BULLMQ_5 if client.startswith(b"bullmq:5.") else Dialect.BULLMQ_6
    return SchedulersRead(now_ms, int(coming) if coming else None, [_record(entry, writer) for entry in entries])


def _record(entry: Any, writer: Dialect) -> SchedulerRecord:
    from toril.jobs import scheduler

    scheduler_id, slot, fields, job = entry
    current = None
    if job:
        started, opts, name, data = job
        current = scheduler.CurrentJob(
            has_started=bool(started),
            opts=scheduler.options_of(opts or b""),
            name=(name or b"").decode(errors="replace"),
            data_json=(data or b"{}").decode(errors="replace"),
        )
    return scheduler.SchedulerRecord(
        scheduler_id.decode(errors="surrogateescape"), int(slot), scheduler.fields_of(fields), current, writer
    )
