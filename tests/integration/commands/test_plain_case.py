"""`add_jobs` and `finish_and_take` have ways of their own for plain jobs. What those do, the general way does too."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from support import flow_trees
from support.engine import EngineQueue, open_queue
from toril.engine.worker import Finish, TakenJob
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

TIMES = {"timestamp", "processedOn", "finishedOn"}


async def work(queue: EngineQueue, in_order: bool, count: int) -> dict[str, Any]:
    """End three of five jobs, take others; answer all that is stored, without times."""
    for _ in range(5):
        await queue.add()
    queue.raw.lpush(queue.keys.wait, "gone")
    jobs = await queue.take(3)
    ended: list[TakenJob] = jobs if in_order else [jobs[2], jobs[1]]
    queue.raw.sadd(queue.keys.stalled, *(job.id for job in jobs))
    reply = await queue.active.finish_and_take([Finish.completed(job, f'"{job.id}"') for job in ended], count, "t:2")
    return {
        "codes": reply.codes,
        "taken": [(job.id, job.token, job.attempts_started, job.processed_by, job.data) for job in reply.taken.jobs],
        "next": (reply.taken.rate_limit_ms, reply.taken.next_due_ms),
        "places": queue.places(),
        "events": queue.events(),
        "hashes": [
            {name: value for name, value in queue.hash(str(number)).items() if name not in TIMES}
            for number in range(1, 6)
        ],
        "locks": sorted(key.split(":")[2] for key in queue.raw.keys(queue.keys.base + "*:lock")),
        "stalled": queue.raw.smembers(queue.keys.stalled),
        "marker": queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True),
    }


@pytest.mark.parametrize("in_order", [True, False], ids=["oldest", "in-between"])
@pytest.mark.parametrize("count", [1, 2, 3])
async def test_both_ways_do_the_same(redis_url: str, queue_name: str, in_order: bool, count: int) -> None:
    async with open_queue(redis_url, queue_name) as plain, open_queue(redis_url, f"{queue_name}-limited") as limited:
        # A limit that limits nothing is enough for the general way.
        limited.raw.hset(limited.keys.meta, "concurrency", 1000)
        found = await work(plain, in_order, count)
        assert len(found["taken"]) == min(count, 2)
        assert found == await work(limited, in_order, count)


def dump(queue: EngineQueue) -> dict[str, Any]:
    """All that is stored, key by key, but for times and for what chose the way."""
    found: dict[str, Any] = {}
    for key in sorted(queue.raw.keys(queue.keys.base + "*")):
        name = key.removeprefix(queue.keys.base)
        match queue.raw.type(key):
            case "string":
                found[name] = queue.raw.get(key)
            case "list":
                found[name] = queue.raw.lrange(key, 0, -1)
            case "set":
                found[name] = queue.raw.smembers(key)
            case "zset" if name == "completed":
                found[name] = queue.raw.zrange(key, 0, -1)
            case "zset":
                found[name] = queue.raw.zrange(key, 0, -1, withscores=True)
            case "stream":
                found[name] = queue.events()
            case _:
                hidden = TIMES | {"opts.maxLenEvents"}
                found[name] = {field: value for field, value in queue.raw.hgetall(key).items() if field not in hidden}
    return found


async def situation(queue: EngineQueue, seed: int) -> dict[str, Any]:
    """Make a queue by chance, end some of its jobs and take others; answers what was told and all that is stored."""
    chance = random.Random(seed)
    for number in range(6):
        await queue.add(jobId=f"old-{number}")
    jobs = await queue.take(6)
    queue.raw.sadd(queue.keys.stalled, *[job.id for job in jobs])
    for job in jobs:
        if chance.random() < 0.2:
            queue.raw.lrem(queue.keys.active, 0, job.id)
    if chance.random() < 0.2:
        queue.raw.delete(queue.keys.active)
    ended = chance.sample(jobs, chance.choice([0, 1, 2, 3, 6, 6]))
    if chance.random() < 0.5:
        ended.sort(key=lambda job: job.id)
    waiting = chance.choice([1, 1, 2, 5])
    are_gone = chance.random() < 0.5
    for number in range(waiting):
        if are_gone or chance.random() < 0.2:
            queue.raw.lpush(queue.keys.wait, f"gone-{number}")
        elif chance.random() < 0.2:
            queue.raw.set(queue.keys.job(f"text-{number}"), "no job")
            queue.raw.lpush(queue.keys.wait, f"text-{number}")
        else:
            await queue.add(jobId=f"new-{number}", attempts=number)
            if chance.random() < 0.3:
                queue.raw.hset(queue.keys.job(f"new-{number}"), "ats", chance.choice(["2", "x", "1.5", "-1"]))
    if chance.random() < 0.2:
        await queue.add(jobId="first", priority=2)
    if chance.random() < 0.3:
        queue.raw.zadd(queue.keys.delayed, {"later": chance.choice([2.0**53, 2.0**64, 2.0**80, 1e300, float("inf")])})
    ends = [Finish.completed(job, f'"{job.id}"') for job in ended]
    reply = await queue.active.finish_and_take(ends, chance.choice([1, 1, waiting, waiting + 2]), "t:2")
    told = [(job.id, job.token, job.attempts_started, job.processed_by, job.data) for job in reply.taken.jobs]
    return {
        "codes": reply.codes, "taken": told, "next": (reply.taken.rate_limit_ms, reply.taken.next_due_ms),
        "stored": dump(queue),
    }  # fmt: skip


@pytest.mark.parametrize("part", range(4))
async def test_both_ways_do_the_same_by_chance(redis_url: str, queue_name: str, part: int) -> None:
    drained = 0
    for seed in range(part * 30, part * 30 + 30):
        names = [f"{queue_name}-{way}-{seed}" for way in ("plain", "general")]
        async with open_queue(redis_url, names[0]) as plain, open_queue(redis_url, names[1]) as general:
            plain.raw.hset(plain.keys.meta, "opts.maxLenEvents", "10000")
            # A cap of so many digits is left to the general way.
            general.raw.hset(general.keys.meta, "opts.maxLenEvents", "1" + "0" * 15)
            found, wanted = await situation(plain, seed), await situation(general, seed)
            assert found == wanted, f"seed {seed}"
            drained += plain.event_names().count("drained")
    assert drained > 0


async def test_each_gets_its_own_value_whatever_the_others_return(redis_url: str, queue_name: str) -> None:
    """Jobs that return nothing are sent without a value; those of one take are a group."""

    async def end(queue: EngineQueue) -> dict[str, Any]:
        await queue.producer.add([NewJob.create("n", {}, JobOptions())] * 8)
        first, second = await queue.take(3), await queue.take(3)
        ends = zip(
            [first[0], second[0], first[1], first[2], second[1], second[2]], [1, None, None, None, "x", 2], strict=True
        )
        finishes = [Finish.completed(job, json.dumps(value)) for job, value in ends]
        reply = await queue.active.finish_and_take(finishes, 1, "t:3")
        events = [event for event in queue.events() if event["event"] == "completed"]
        return {
            "codes": reply.codes,
            "taken": [job.id for job in reply.taken.jobs],
            "values": {job_id: queue.hash(job_id)["returnvalue"] for job_id in "123456"},
            "told": [(event["jobId"], event["returnvalue"]) for event in events],
            "places": queue.places(),
        }

    async with open_queue(redis_url, queue_name) as plain, open_queue(redis_url, f"{queue_name}-limited") as limited:
        limited.raw.hset(limited.keys.meta, "concurrency", 1000)
        found = await end(plain)
        assert found["told"] == [("1", "1"), ("4", "null"), ("2", "null"), ("3", "null"), ("5", '"x"'), ("6", "2")]
        assert (found["values"], found["codes"]) == (dict(found["told"]), [0] * 6)
        assert found == await end(limited)


async def test_both_ways_add_the_same(redis_url: str, queue_name: str) -> None:
    async def add(queue: EngineQueue) -> dict[str, Any]:
        await queue.add("first")  # writes what the plain way finds in `meta`
        options = [JobOptions(), JobOptions.from_bullmq({"attempts": 3})]
        jobs = [NewJob.create(f"n{number % 3}", {"n": number}, options[number % 2]) for number in range(20)]
        ids = await queue.producer.add(jobs)
        stored = [queue.hash(job_id) for job_id in ids]
        for fields in stored:
            del fields["timestamp"]
        marker = queue.raw.zrange(queue.keys.marker, 0, -1, withscores=True)
        return {"ids": ids, "places": queue.places(), "events": queue.events(), "stored": stored, "marker": marker}

    async with open_queue(redis_url, queue_name) as plain, open_queue(redis_url, f"{queue_name}-limited") as limited:
        limited.raw.hset(limited.keys.meta, "concurrency", 1000)
        found = await add(plain)
        assert found["ids"] == [str(number) for number in range(2, 22)]
        assert found == await add(limited)


@pytest.mark.parametrize("progress", [False, True], ids=["as-it-was", "told-something"])
async def test_a_job_that_was_given_a_parent_while_it_ran_tells_it(
    redis_url: str, queue_name: str, progress: bool
) -> None:
    """A new job is not looked at again for what ties it to others, unless it has more fields than it had."""
    async with open_queue(redis_url, queue_name) as queue, open_queue(redis_url, f"{queue_name}-up") as upper:
        await flow_trees.add(upper.connection, flow_trees.tree(upper, "p", flow_trees.tree(upper, "other")))
        for job_id in ("a", "b", "later"):
            await queue.add(jobId=job_id)
        jobs = await queue.take(2)
        if progress:
            queue.raw.hset(queue.keys.job("a"), "progress", "1")
        parent = {"id": "p", "queue": upper.keys.qualified_name}
        options = JobOptions.from_bullmq({"jobId": "b", "parent": parent})
        assert await queue.producer.add([NewJob.create("n", {}, options)]) == ["b"]
        finishes = [Finish.completed(job, f'"{job.id}"') for job in jobs]
        reply = await queue.active.finish_and_take(finishes, 1, "t:2")
        assert (reply.codes, [job.id for job in reply.taken.jobs]) == ([0, 0], ["later"])
        assert upper.raw.hgetall(f"{upper.keys.job('p')}:processed") == {queue.keys.job("b"): '"b"'}


@pytest.mark.parametrize("is_new", [True, False], ids=["first-attempt", "second-attempt"])
async def test_a_job_that_was_deleted_by_hand_does_not_come_back_by_its_end(queue: EngineQueue, is_new: bool) -> None:
    """Whoever deletes the hash alone leaves its lock and its place in `active`."""
    await queue.add(jobId="a")
    job = await queue.take_one()
    if not is_new:
        await queue.finish(Finish.retry(job, "no", "[]", 0))
        job = await queue.take_one()
    await queue.add(jobId="b")
    queue.raw.delete(queue.keys.job("a"))
    reply = await queue.active.finish_and_take([Finish.completed(job, "1")], 1, "t:2")
    assert (reply.codes, queue.hash("a"), queue.places()) == ([-1], {}, {"active": ["a", "b"]})


async def test_a_delayed_job_that_is_due_for_ever_is_taken_in_turn(queue: EngineQueue) -> None:
    """A score of -inf, which another program may have written: it hides those that are due behind it."""
    await queue.add(jobId="late", delay=1)
    await queue.add(jobId="first")
    queue.raw.zadd(queue.keys.delayed, {"nothing": "-inf", "late": 1})
    assert [job.id for job in await queue.finish(take=1)] == ["first"]
    assert queue.places() == {"active": ["first"], "wait": ["late"]}


@pytest.mark.parametrize("stored", [-25, -5, -1, 0, 8, 9, 10, 98, 99, 2**53 - 30])
@pytest.mark.parametrize("count", [1, 2, 11, 25])
async def test_ids_follow_the_number_that_is_stored(queue: EngineQueue, stored: int, count: int) -> None:
    queue.raw.hset(queue.keys.meta, "opts.maxLenEvents", "10000")
    queue.raw.set(queue.keys.id, stored)
    ids = await queue.producer.add([NewJob.create("n", {}, JobOptions())] * count)
    assert ids == [str(stored + number) for number in range(1, count + 1)]
    assert queue.places() == {"wait": ids}
