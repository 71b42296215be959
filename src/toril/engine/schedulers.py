"""Job schedulers of a queue: BullMQ's records, kept going by whoever is there.

A scheduler has one current slot. Its job is there from the moment when the slot before came, as a delayed job; making
it and moving the slot on is one compare-and-set in Redis, so a worker, a foreign worker and the operator may all do so
at once, and each slot gets one job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from toril import errors
from toril.engine import operations, scripts
from toril.engine.keys import QueueKeys
from toril.engine.operations import Operation
from toril.engine.redis.connection import AsyncConnection
from toril.engine.scripts import SchedulersRead, Upsert
from toril.jobs import scheduler
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import CurrentJob, JobTemplate, NextJob, SchedulerRecord

PAGE = 200
"""Schedulers read, and jobs made, by one call."""
STUCK_PAGE = 20
"""Schedulers read by one call of a reader whose replies may not be large."""
MAX_SLOTS_A_TURN = 100
"""Missed slots of one scheduler that one turn makes up for; the next turn goes on."""
MAX_TAKEN_SLOTS = 32
"""Slots that have a job already and are passed over by an upsert, as in BullMQ."""


@dataclass(frozen=True, slots=True)
class Upserted:
    """What an upsert made."""

    job_id: str
    slot_ms: int
    """When the job is due, Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """What one turn made."""

    job_ids: list[str] = field(default_factory=list)
    """Jobs made, oldest slot first for each scheduler."""
    next_slot_ms: int | None = None
    """When the next turn has something to do, Unix milliseconds of Redis's clock; None = no slot is armed."""
    now_ms: int = 0
    """Redis's clock at the turn's end."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Schedulers that cannot be carried on, and why."""


def upsert(
    keys: QueueKeys,
    scheduler_id: str,
    schedule: Schedule,
    template: JobTemplate,
    *,
    layout: scripts.Layout = "6",
    first_ms: int | None = None,
    made: int | None = None,
) -> Operation[Upserted | None]:
    """Make a scheduler, or change the one of this id, and arm its next job.

    A job that was armed and not taken is replaced. With the same interval as before it keeps its slot; a pattern's
    next slot, and that of a new interval, is counted from now.

    Args:
        first_ms: an interval's slots are counted from this one, Unix milliseconds; None = where BullMQ puts them.
        made: how many jobs count as made before, for `limit` and the iteration count; None = as BullMQ counts, which
            begins anew when the scheduler was removed.

    Returns:
        The armed job; None when the schedule has no slot any more: then nothing was changed.

    Raises:
        InvalidOptionError: the id is empty, or the schedule ended before now.
        JobStateError: the next 32 slots have jobs already.
        RedisUnavailableError, UnknownOutcomeError: as of the connection. To repeat an upsert is safe.
    """
    scheduler.checked_scheduler_id(scheduler_id)
    taken_ms: int | None = None
    for _ in range(2 * MAX_TAKEN_SLOTS):
        seen: SchedulersRead = yield scripts.read_schedulers(keys, "ids", scheduler_id)
        if schedule.end_ms is not None and schedule.end_ms < seen.now_ms:
            raise errors.InvalidOptionError("endDate", "must be later than now")
        wanted = _upsert(scheduler_id, schedule, template, seen, taken_ms, first_ms)
        if wanted is None:
            return None
        code, slot_ms = yield scripts.upsert_scheduler(keys, replace(wanted, made=made), layout=layout)
        if code == scripts.MADE:
            return Upserted(scheduler.slot_job_id(scheduler_id, slot_ms), slot_ms)
        if code == scripts.THERE_ALREADY:
            taken_ms = slot_ms
    raise errors.JobStateError(f"scheduler {scheduler_id}: its next slots have jobs already; remove those first")


def remove(keys: QueueKeys, scheduler_id: str) -> Operation[bool]:
    """Remove a scheduler and its delayed job; a job in line or running goes on. Returns whether it was there."""
    was_there: bool = yield scripts.remove_scheduler(keys, scheduler_id)
    return was_there


def look(keys: QueueKeys, scheduler_id: str) -> Operation[tuple[SchedulerRecord | None, int]]:
    """Read one scheduler (None when there is none), and Redis's clock at that moment, Unix milliseconds."""
    read: SchedulersRead = yield scripts.read_schedulers(keys, "ids", scheduler_id)
    return (read.records[0] if read.records else None), read.now_ms


def page(keys: QueueKeys, start: int, end: int) -> Operation[list[SchedulerRecord]]:
    """Read the schedulers of rank `start` to `end` (−1 = the last), the next slot first."""
    read: SchedulersRead = yield scripts.read_schedulers(keys, "rank", start, end)
    return read.records


def count(keys: QueueKeys) -> Operation[int]:
    """How many schedulers there are. Redis: ZCARD on `repeat`."""
    found: int = yield ("ZCARD", keys.repeat)
    return found


class JobSchedulers:
    """The job schedulers of one queue, over one connection. Redis's clock counts, not this machine's."""

    def __init__(self, connection: AsyncConnection, keys: QueueKeys, *, layout: scripts.Layout = "6") -> None:
        self.connection = connection
        self.keys = keys
        self.layout: scripts.Layout = layout

    async def upsert(
        self,
        scheduler_id: str,
        schedule: Schedule,
        template: JobTemplate,
        *,
        first_ms: int | None = None,
        made: int | None = None,
    ) -> Upserted | None:
        """Make a scheduler, or change the one of this id, and arm its next job: see the function `upsert`."""
        work = upsert(self.keys, scheduler_id, schedule, template, layout=self.layout, first_ms=first_ms, made=made)
        return await operations.execute(self.connection, work)

    async def remove(self, scheduler_id: str) -> bool:
        """Remove a scheduler and its delayed job; a job in line or running goes on. Returns whether it was there."""
        return await operations.execute(self.connection, remove(self.keys, scheduler_id))

    async def get(self, scheduler_id: str) -> SchedulerRecord | None:
        """Read one scheduler; None when there is none."""
        record, _ = await self.look(scheduler_id)
        return record

    async def look(self, scheduler_id: str) -> tuple[SchedulerRecord | None, int]:
        """Read one scheduler, and Redis's clock at that moment, Unix milliseconds."""
        return await operations.execute(self.connection, look(self.keys, scheduler_id))

    async def list(self, start: int = 0, end: int = -1) -> list[SchedulerRecord]:
        """Read the schedulers of rank `start` to `end` (−1 = the last), the next slot first."""
        return await operations.execute(self.connection, page(self.keys, start, end))

    async def count(self) -> int:
        """How many schedulers there are."""
        return await operations.execute(self.connection, count(self.keys))

    async def advance(self, taken: Mapping[str, str]) -> Advanced:
        """Make the next jobs of schedulers whose jobs were taken, when those are of the current slots.

        Args:
            taken: scheduler id → id of its job that was taken.
        """
        read = await self.connection.run(scripts.read_schedulers(self.keys, "ids", *taken))
        turn = _Turn(read, catch_up_ms=0, also_waiting=False)
        await self._make([record for record in read.records if taken.get(record.id) == record.job_id], turn)
        return turn.result(None)

    async def advance_due(self, *, also_waiting: bool = False, catch_up_ms: int = 0) -> Advanced:
        """Make the next jobs of all schedulers whose current slot has come. Any number of processes may do so at once.

        Args:
            also_waiting: also when the current slot's job still waits for a worker. Workers leave this out: they repair
                what a worker left undone, and a busy queue gets no second job of a scheduler before the first is taken.
                Where each slot is to get its job whether or not there is a worker, the operator asks for it.
            catch_up_ms: slots missed by no more than this are made one by one, older ones are passed over. 0: one job
                for all that were missed, as BullMQ does.
        """
        position, turn = 0, None
        while True:
            read = await self.connection.run(scripts.read_schedulers(self.keys, "due", position, PAGE))
            turn = turn or _Turn(read, catch_up_ms=catch_up_ms, also_waiting=also_waiting)
            position += await self._make(read.records, turn)
            if len(read.records) < PAGE:
                break
        if turn.has_made_jobs:
            read = await self.connection.run(scripts.read_schedulers(self.keys, "due", 0, 0))
        return turn.result(read)

    async def advance_one(self, scheduler_id: str, *, catch_up_ms: int = 0) -> Advanced:
        """Make the next jobs of one scheduler if its current slot has come, whether or not that slot's job was taken.

        Args:
            catch_up_ms: as with `advance_due`.
        """
        read = await self.connection.run(scripts.read_schedulers(self.keys, "ids", scheduler_id))
        turn = _Turn(read, catch_up_ms=catch_up_ms, also_waiting=True)
        await self._make([record for record in read.records if record.slot_ms <= read.now_ms], turn)
        return turn.result(None)

    async def stuck(self) -> dict[str, str]:
        """The schedulers whose slot has come and that cannot be carried on, and why; among the first 200 by slot."""
        found: dict[str, str] = {}
        for position in range(0, PAGE, STUCK_PAGE):
            read = await self.connection.run(scripts.read_schedulers(self.keys, "due", position, STUCK_PAGE))
            for record in read.records:
                try:
                    scheduler.next_job(record, read.now_ms)
                except errors.InvalidInputError as problem:
                    found[record.id] = str(problem)
            if len(read.records) < STUCK_PAGE:
                break
        return found

    async def _make(self, records: Sequence[SchedulerRecord], turn: _Turn) -> int:
        """Make next jobs, and those after while there are any. Returns how many of the records stay as they are."""
        pending = list(records)
        unchanged = 0
        for round_number in range(MAX_SLOTS_A_TURN):
            following = [(record, job) for record in pending if (job := turn.next_job(record)) is not None]
            if round_number == 0:
                unchanged = len(pending) - len(following)
            if not following:
                break
            jobs = [job for _, job in following]
            codes = await self.connection.run(scripts.advance_schedulers(self.keys, jobs, layout=self.layout))
            pending = turn.note(following, codes)
            if round_number == 0:
                # Those that another client has changed are left for the next turn.
                unchanged += sum(code == scripts.CHANGED for code in codes)
        return unchanged


class _Turn:
    """One turn of advancing: what was seen, and what was made."""

    def __init__(self, read: SchedulersRead, *, catch_up_ms: int, also_waiting: bool) -> None:
        self._now_ms = read.now_ms
        self._catch_up_ms = catch_up_ms
        self._also_waiting = also_waiting
        self._job_ids: list[str] = []
        self._problems: dict[str, str] = {}

    @property
    def has_made_jobs(self) -> bool:
        return bool(self._job_ids)

    def next_job(self, record: SchedulerRecord) -> NextJob | None:
        if not self._also_waiting and record.job is not None and not record.job.has_started:
            return None
        try:
            return scheduler.next_job(record, self._now_ms, catch_up_ms=self._catch_up_ms)
        except errors.InvalidInputError as problem:
            self._problems[record.id] = str(problem)
            return None

    def note(self, following: Sequence[tuple[SchedulerRecord, NextJob]], codes: Sequence[int]) -> list[SchedulerRecord]:
        """Note what was made; returns the schedulers whose new slots have come already."""
        again = []
        for (record, job), code in zip(following, codes, strict=True):
            if code != scripts.MADE:
                continue
            made = replace(record, slot_ms=job.slot_ms, job=CurrentJob(False, job.opts, job.name, job.data_json))
            self._job_ids.append(made.job_id)
            if job.slot_ms <= self._now_ms:
                again.append(made)
        return again

    def result(self, last: SchedulersRead | None) -> Advanced:
        now_ms = last.now_ms if last else self._now_ms
        return Advanced(self._job_ids, last.next_slot_ms if last else None, now_ms, self._problems)


def _upsert(
    scheduler_id: str, schedule: Schedule, template: JobTemplate, seen: SchedulersRead, taken_ms: int | None,
    first_ms: int | None,
) -> Upsert | None:  # fmt: skip
    """What to store, as of what was seen; `taken_ms` is a slot that turned out to have a job already."""
    record = seen.records[0] if seen.records else None
    keeps = bool(record and schedule.every_ms and record.repeat.get("every") == schedule.every_ms and first_ms is None)
    if taken_ms is not None:
        slot_ms = schedule.next_slot_ms(taken_ms, taken_ms, offset_ms=schedule.offset_ms)
    elif first_ms is not None:
        slot_ms = first_ms
    elif keeps and record:
        slot_ms = schedule.next_slot_ms(record.slot_ms, seen.now_ms, offset_ms=schedule.offset_ms)
    else:
        slot_ms = schedule.first_slot_ms(seen.now_ms)
    if slot_ms is None:
        return None
    seen_ms = record.slot_ms if record else None
    begins_anew = first_ms is not None and schedule.every_ms > 0
    return Upsert(scheduler_id, schedule, template, seen_ms, slot_ms, keeps, begins_anew)
