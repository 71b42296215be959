"""Job schedulers, made and carried on by them and by us, in every combination."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support import soak
from support.engine import EngineQueue
from support.node_peer import Handle, Peer
from support.waiting import wait_until_async
from toril.engine.maintenance import recover_stalled
from toril.engine.worker import Finish
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate

HOUR_MS = 3_600_000
EVERY_MS = 250
START_MS = 4_000_000_000_123
"""A moment that no test reaches: both sides arm the same slot."""


async def ours_upsert(ours: EngineQueue, scheduler_id: str, repeat: dict[str, Any], **template: Any) -> str:
    made = await ours.schedulers.upsert(scheduler_id, Schedule.from_bullmq(repeat), JobTemplate.create(**template))
    assert made is not None
    return made.job_id


async def theirs_upsert(peer: Peer, scheduler_id: str, repeat: dict[str, Any], **template: Any) -> str:
    job = await peer.queue.call("upsertJobScheduler", scheduler_id, repeat, template)
    return str(job["id"])


async def upsert(
    peer: Peer, ours: EngineQueue, by: str, scheduler_id: str, repeat: dict[str, Any], **template: Any
) -> str:
    if by == "ours":
        return await ours_upsert(ours, scheduler_id, repeat, **template)
    return await theirs_upsert(peer, scheduler_id, repeat, **template)


def dump(ours: EngineQueue) -> dict[str, Any]:
    """All schedulers and jobs; what says when something was done, and nothing else, is left out."""
    found: dict[str, Any] = {"repeat": ours.raw.zrange(ours.keys.repeat, 0, -1, withscores=True), **ours.places()}
    for key in ours.raw.keys(ours.keys.repeat + ":*"):
        if ours.raw.type(key) != "hash":
            continue
        fields = ours.raw.hgetall(key)
        for name in ("opts", "data"):
            if name in fields:
                fields[name] = json.loads(fields[name])
        for name in ("timestamp", "processedOn", "finishedOn", "returnvalue"):
            fields.pop(name, None)
        if "rjk" in fields:
            assert fields["delay"] == "0" or abs(int(fields["delay"]) - fields["opts"]["delay"]) <= 30_000
            del fields["delay"], fields["opts"]["delay"], fields["opts"]["timestamp"]
        found[key.removeprefix(ours.keys.base)] = fields
    found["events"] = [{name: text for name, text in event.items() if name != "delay"} for event in ours.events()]
    return found


def slots(ours: EngineQueue, scheduler_id: str) -> list[int]:
    start = f"{ours.keys.repeat}:{scheduler_id}:"
    names = [key.removeprefix(start) for key in ours.raw.keys(start + "*")]
    return sorted(int(name) for name in names if name.isdigit())


async def until_runs(worker: Handle, count: int) -> list[dict[str, Any]]:
    async def have_run() -> bool:
        return len(await worker.runs()) >= count

    await wait_until_async(have_run, f"{count} runs by their worker")
    return list(await worker.runs())


async def their_turn(worker: Handle) -> str:
    """Take a job with their worker (`autorun=False`), and complete it. Returns its id."""
    return str(await worker.node.request("takeOne", handle=worker.number))


async def our_turn(ours: EngineQueue, scheduler_id: str) -> str:
    """Take the scheduler's job as our worker does, carry the scheduler on, and end the job. Returns its id."""
    (job,) = await wait_until_async(ours.take, "the scheduler's job", interval_seconds=0.005)
    await ours.schedulers.advance({scheduler_id: job.id})
    await ours.finish(Finish.completed(job, "null"))
    return job.id


SCHEDULERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "interval": ({"every": HOUR_MS, "startDate": START_MS}, {}),
    "limited": ({"every": 5000, "startDate": START_MS, "limit": 3, "endDate": START_MS + HOUR_MS}, {"data": {"a": 1}}),
    "template": (
        {"every": HOUR_MS, "startDate": START_MS},
        {"name": "clean", "data": {"batch": 50}, "opts": {"attempts": 3, "priority": 2, "removeOnFail": 5}},
    ),
    "pattern": ({"pattern": "0 2 * * *", "tz": "Europe/Berlin", "startDate": START_MS}, {"data": [1, None]}),
    "seconds": ({"pattern": "15,45 30 4 1 1 *", "tz": "America/New_York", "startDate": START_MS}, {"name": "n"}),
}


@pytest.mark.wire(83, 86, 91)
@pytest.mark.parametrize(("repeat", "template"), SCHEDULERS.values(), ids=SCHEDULERS.keys())
async def test_what_is_stored_is_the_same(
    peer: Peer, ours: EngineQueue, version: str, repeat: dict[str, Any], template: dict[str, Any]
) -> None:
    dumps = []
    for by in ("theirs", "ours"):
        # Made, and made again in its own place; then taken early and carried on.
        for _ in range(2):
            job_id = await upsert(peer, ours, by, "team:nightly", repeat, **template)
        await peer.queue.job(job_id, "promote")
        if by == "theirs":
            worker = await peer.worker(name="worker-1")
            await until_runs(worker, 1)
            await peer.until_state(job_id, "completed")
            await worker.close()
        else:
            assert await our_turn(ours, "team:nightly") == job_id
        dumps.append(dump(ours))
        ours.raw.flushdb()
    theirs, own = dumps
    for found in dumps:
        # What a worker and our engine alone do otherwise with any job is for other tests.
        found["events"] = [event for event in found["events"] if event["event"] in ("added", "delayed", "removed")]
        found[job_id]["pb"] = "worker-1"
    assert own == theirs
    assert ("nrjid" in own[job_id]) == (version == "5")


@pytest.mark.wire(84)
async def test_our_next_job_is_theirs_also_with_options_that_ours_refuse(peer: Peer, ours: EngineQueue) -> None:
    opts = {"deduplication": {"id": "d"}, "lifo": True, "keepLogs": 2, "backoff": 50, "attempts": 2}
    dumps = []
    for by in ("theirs", "ours"):
        job_id = await theirs_upsert(peer, "s", {"every": HOUR_MS, "startDate": START_MS}, opts=opts)
        await peer.queue.job(job_id, "promote")
        if by == "theirs":
            await their_turn(await peer.worker(autorun=False))
        else:
            await our_turn(ours, "s")
        dumps.append(dump(ours)[f"repeat:s:{START_MS + HOUR_MS}"])
        ours.raw.flushdb()
    assert dumps[0] == dumps[1]


@pytest.mark.wire(83)
async def test_the_first_run_of_an_interval_is_immediate(peer: Peer, ours: EngineQueue) -> None:
    for by in ("theirs", "ours"):
        job_id = await upsert(peer, ours, by, by, {"every": HOUR_MS}, data=1)
        job = await peer.queue.job(job_id)
        assert (job["delay"], job["opts"]["repeat"]) == (0, {"every": HOUR_MS, "count": 1})
        assert ours.raw.hget(f"{ours.keys.repeat}:{by}", "offset") == str(int(job_id.rpartition(":")[2]) % HOUR_MS)
    assert len(ours.places()["wait"]) == 2


@pytest.mark.wire(84, 88)
async def test_their_worker_keeps_our_interval_going(peer: Peer, ours: EngineQueue) -> None:
    first = int((await ours_upsert(ours, "s", {"every": 100}, data=1)).rpartition(":")[2])
    worker = await peer.worker()
    runs = await until_runs(worker, 5)
    (listed,) = await peer.queue.call("getJobSchedulers")
    assert listed["template"] == {"data": 1}
    assert listed["iterationCount"] >= 5
    await worker.close()
    assert all((int(run["id"].rpartition(":")[2]) - first) % 100 == 0 for run in runs)
    assert len({run["id"] for run in runs}) == len(runs)


@pytest.mark.wire(84, 86)
@pytest.mark.parametrize("made_by", ["ours", "theirs"])
async def test_a_limit_gives_exactly_so_many_runs(peer: Peer, ours: EngineQueue, made_by: str) -> None:
    """Taken in turns by both, each early, so that every slot is met exactly."""
    job_id = await upsert(peer, ours, made_by, "s", {"every": HOUR_MS, "limit": 4})
    first = int(job_id.rpartition(":")[2])
    worker = await peer.worker(autorun=False)
    for number in range(4):
        if number:
            await peer.queue.call("promoteJobs")
        if number % 2:
            assert await our_turn(ours, "s") == f"repeat:s:{first + number * HOUR_MS}"
        else:
            await their_turn(worker)
    assert slots(ours, "s") == [first + number * HOUR_MS for number in range(4)]
    assert ours.places().keys() == {"completed"}
    # The record stays, as in BullMQ.
    assert await peer.queue.call("getJobSchedulersCount") == await ours.schedulers.count() == 1


@pytest.mark.wire(86)
@pytest.mark.parametrize("taken_by", ["ours", "theirs"])
async def test_an_end_stops_the_series(peer: Peer, ours: EngineQueue, taken_by: str) -> None:
    made_by = "theirs" if taken_by == "ours" else "ours"
    job_id = await upsert(peer, ours, made_by, "s", {"every": HOUR_MS, "endDate": START_MS})
    opts = json.loads(ours.hash(job_id)["opts"])
    opts["repeat"]["endDate"] = 1000
    ours.raw.hset(ours.keys.job(job_id), "opts", json.dumps(opts))
    if taken_by == "ours":
        await our_turn(ours, "s")
    else:
        worker = await peer.worker(autorun=False)
        await their_turn(worker)
    assert len(slots(ours, "s")) == 1


@pytest.mark.wire(86)
async def test_an_offset_puts_slots_where_bullmq_puts_them(peer: Peer, ours: EngineQueue) -> None:
    for by in ("theirs", "ours"):
        job_id = await upsert(peer, ours, by, by, {"every": HOUR_MS, "offset": 1234})
        assert int(job_id.rpartition(":")[2]) % HOUR_MS == 1234
        assert ours.raw.hget(f"{ours.keys.repeat}:{by}", "offset") == "1234"
        assert json.loads(ours.hash(job_id)["opts"])["repeat"] == {"every": HOUR_MS, "offset": 1234, "count": 1}


@pytest.mark.wire(87, 88)
@pytest.mark.parametrize(("first", "second"), [("ours", "theirs"), ("theirs", "ours")])
async def test_a_scheduler_of_one_side_is_changed_by_the_other(
    peer: Peer, ours: EngineQueue, first: str, second: str
) -> None:
    job_id = await upsert(peer, ours, first, "s", {"every": HOUR_MS, "startDate": START_MS}, data="old")
    same = await upsert(peer, ours, second, "s", {"every": HOUR_MS}, data="new")
    assert same == job_id
    assert ours.places() == {"delayed": [job_id]}
    assert (await peer.queue.job(job_id))["data"] == "new"
    changed = await upsert(peer, ours, second, "s", {"every": HOUR_MS // 2})
    assert changed != job_id
    assert ours.places() == {"wait": [changed]}
    # While it runs, the next slot is armed, and taking that into account is nobody's second step.
    job = await ours.take_one()
    following = await upsert(peer, ours, first, "s", {"every": HOUR_MS // 2}, data="newer")
    assert int(following.rpartition(":")[2]) == int(changed.rpartition(":")[2]) + HOUR_MS // 2
    await ours.schedulers.advance({"s": job.id})
    assert ours.places() == {"active": [changed], "delayed": [following]}


@pytest.mark.wire(89)
@pytest.mark.parametrize("removed_by", ["ours", "theirs"])
async def test_removal_takes_the_delayed_job_alone(peer: Peer, ours: EngineQueue, removed_by: str) -> None:
    made_by = "theirs" if removed_by == "ours" else "ours"
    delayed = await upsert(peer, ours, made_by, "a:b", {"every": HOUR_MS, "startDate": START_MS})
    waiting = await upsert(peer, ours, made_by, "c", {"every": HOUR_MS})
    for scheduler_id in ("a:b", "c"):
        if removed_by == "ours":
            assert await ours.schedulers.remove(scheduler_id)
        else:
            assert await peer.queue.call("removeJobScheduler", scheduler_id)
    assert ours.places() == {"wait": [waiting]}
    removed = [event for event in ours.events() if event["event"] == "removed"]
    assert removed == [{"event": "removed", "jobId": delayed, "prev": "delayed"}]
    assert ours.raw.keys(ours.keys.repeat + "*") == [ours.keys.job(waiting)]


@pytest.mark.wire(90)
@pytest.mark.parametrize("taken_by", ["ours", "theirs"])
async def test_a_late_worker_makes_up_once_and_keeps_the_beat(peer: Peer, ours: EngineQueue, taken_by: str) -> None:
    job_id = await ours_upsert(ours, "s", {"every": HOUR_MS})
    first = int(job_id.rpartition(":")[2]) - 5 * HOUR_MS
    late = f"repeat:s:{first}"
    ours.raw.rename(ours.keys.job(job_id), ours.keys.job(late))
    ours.raw.lset(ours.keys.wait, 0, late)
    ours.raw.zadd(ours.keys.repeat, {"s": first})
    if taken_by == "ours":
        await our_turn(ours, "s")
    else:
        worker = await peer.worker(autorun=False)
        await their_turn(worker)
    assert slots(ours, "s") == [first, first + 6 * HOUR_MS]


@pytest.mark.wire(88, 91)
async def test_their_lists_show_ours_and_delete_nothing(peer: Peer, ours: EngineQueue) -> None:
    ids = ["plain", "a:b", "a:b:c:d:0 * * * *", "n:1::Europe/Berlin:300000", "ünï"]
    for scheduler_id in ids:
        await ours_upsert(ours, scheduler_id, {"every": HOUR_MS, "startDate": START_MS}, data={"of": scheduler_id})
    listed = await peer.queue.call("getJobSchedulers")
    assert {each["key"]: each["template"] for each in listed} == {each: {"data": {"of": each}} for each in ids}
    for scheduler_id in ids:
        await theirs_upsert(peer, scheduler_id, {"pattern": "0 3 * * *", "tz": "UTC"}, data=1)
    assert {record.id: record.schedule.pattern for record in await ours.schedulers.list()} == dict.fromkeys(
        ids, "0 3 * * *"
    )


@pytest.mark.wire(92)
@pytest.mark.parametrize("version", ["5"])
@pytest.mark.parametrize("key", [None, "mine"], ids=["hashed", "own-key"])
async def test_a_repeatable_of_the_older_kind_is_carried_on_with_its_data(
    peer: Peer, ours: EngineQueue, key: str | None
) -> None:
    repeat = {"every": HOUR_MS, **({"key": key} if key else {})}
    await peer.queue.add("report", {"x": 1}, repeat=repeat, attempts=2)
    (record,) = await ours.schedulers.list()
    assert record.iteration_count is None
    await peer.queue.call("promoteJobs")
    await our_turn(ours, record.id)
    (following,) = ours.places()["delayed"]
    job = await peer.queue.job(following)
    assert (job["name"], job["data"], job["opts"]["attempts"], job["opts"]["repeat"]["count"]) == (
        "report",
        {"x": 1},
        2,
        2,
    )
    # And so is it by BullMQ after us.
    await peer.queue.call("promoteJobs")
    worker = await peer.worker(autorun=False)
    await their_turn(worker)
    (after,) = ours.places()["delayed"]
    assert ours.hash(after)["data"] == '{"x":1}'
    assert int(after.rpartition(":")[2]) - int(following.rpartition(":")[2]) == HOUR_MS


@pytest.mark.wire(43)
@pytest.mark.parametrize("checked_by", ["ours", "theirs"])
async def test_a_schedulers_job_is_never_failed_for_stalling(peer: Peer, ours: EngineQueue, checked_by: str) -> None:
    await upsert(peer, ours, "theirs" if checked_by == "ours" else "ours", "s", {"every": HOUR_MS})
    worker = await peer.worker(autorun=False, stalledInterval=50, maxStalledCount=0, skipStalledCheck=True)
    for times in (1, 2):
        job = await ours.take_one()
        ours.raw.delete(ours.keys.lock(job.id))
        for _ in range(2):
            ours.raw.delete(ours.keys.stalled_check)
            if checked_by == "ours":
                await recover_stalled.run_once(ours.connection, ours.keys, max_stalled_count=0, interval_ms=50)
            else:
                await worker.call("moveStalledJobsToWait")
        assert ours.places()["wait"] == [job.id]
        assert ours.hash(job.id)["stc"] == str(times)
        assert "defa" not in ours.hash(job.id)


@pytest.mark.requirement("T23")
@pytest.mark.wire(84)
@pytest.mark.parametrize("count", soak.lengths(120, 1000))
async def test_slots_that_both_advance_at_once_are_one_job_each(peer: Peer, ours: EngineQueue, count: int) -> None:
    """Each slot's job is taken early by their worker, while two of us carry the scheduler on as soon as it is taken."""
    job_id = await ours_upsert(ours, "s", {"every": HOUR_MS}, opts={"removeOnComplete": False})
    first = int(job_id.rpartition(":")[2])
    worker = await peer.worker()
    is_over = asyncio.Event()
    made: list[str] = []

    async def advance() -> None:
        while not is_over.is_set():
            record = await ours.schedulers.get("s")
            assert record is not None
            made.extend((await ours.schedulers.advance({"s": record.job_id})).job_ids)
            made.extend((await ours.schedulers.advance_due()).job_ids)

    advancers = [asyncio.create_task(advance()) for _ in range(2)]

    async def enough() -> bool:
        await peer.queue.call("promoteJobs")
        return len(slots(ours, "s")) >= count

    await wait_until_async(enough, f"{count} slots", timeout_seconds=100, interval_seconds=0.001)
    is_over.set()
    await asyncio.gather(*advancers)
    await worker.close()
    found = slots(ours, "s")
    assert found == [first + number * HOUR_MS for number in range(len(found))]
    assert len(set(made)) == len(made)
    runs = [run["id"] for run in await worker.runs()]
    assert len(set(runs)) == len(runs) >= len(found) - 1
    names = [event["jobId"] for event in ours.events() if event["event"] == "added"]
    assert len(set(names)) == len(names) == len(found)


@pytest.mark.requirement("T23")
async def test_each_slot_has_its_job_when_somebody_sees_to_it_beside_their_worker(
    peer: Peer, ours: EngineQueue
) -> None:
    """As the operator does it: at each slot's time, whether or not its job was taken."""
    first = int((await theirs_upsert(peer, "s", {"every": EVERY_MS})).rpartition(":")[2])
    worker = await peer.worker()
    armed = first
    unseen: set[int] = set()
    while len(slots(ours, "s")) < 7:
        turn = await ours.schedulers.advance_due(also_waiting=True, catch_up_ms=60_000)
        # Their worker passes over slots that are over when it looks. When all stands still, we come too late as well.
        unseen.update(range(armed + EVERY_MS, turn.now_ms + 1, EVERY_MS))
        armed = int(ours.raw.zscore(ours.keys.repeat, "s"))
        await asyncio.sleep(max(armed - turn.now_ms, 1) / 1000)
    runs = [run["id"] for run in await until_runs(worker, 6)]
    await worker.close()
    found = slots(ours, "s")
    assert set(range(first, armed + 1, EVERY_MS)) - unseen <= {*found}
    assert all((slot - first) % EVERY_MS == 0 for slot in found)
    assert len(set(runs)) == len(runs)
