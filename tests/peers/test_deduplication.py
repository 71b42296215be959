"""Deduplication: the same calls leave the same queue behind, and either side carries on what the other began."""

from __future__ import annotations

import random
from typing import Any

import pytest

from support.dumps import NOW_MS, dump_and_clear, without_moments
from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril import Queue
from toril.engine.worker import Finish, TakenJob
from toril.worker import outcomes

HOUR_MS = 3_600_000
TOKEN = "test:1"
"""Both sides lock with the same."""
SIMPLE = {"id": "d"}
THROTTLE = {"id": "d", "ttl": HOUR_MS}
EXTEND = {"id": "d", "ttl": HOUR_MS, "extend": True}
DEBOUNCE = {"id": "d", "ttl": HOUR_MS, "replace": True}
DEBOUNCE_EXTEND = {"id": "d", "ttl": HOUR_MS, "replace": True, "extend": True}
REPLACE = {"id": "d", "replace": True}
LAST = {"id": "d", "keepLastIfActive": True}
LAST_TTL = {"id": "d", "keepLastIfActive": True, "ttl": HOUR_MS}
LAST_EXTEND = {"id": "d", "keepLastIfActive": True, "ttl": HOUR_MS, "extend": True}
LAST_REPLACE = {"id": "d", "keepLastIfActive": True, "replace": True}
RESCHEDULE = {"id": "d", "reschedule": True}
RESCHEDULE_EXTEND = {**EXTEND, "reschedule": True}

Step = dict[str, Any] | str
"""Options of an add, or what happens to the first job: take, complete, fail; `lose` deletes its hash."""


def add(deduplication: dict[str, Any], **options: Any) -> Step:
    return {"deduplication": deduplication, **options}


SEQUENCES: dict[str, list[Step]] = {
    "simple": [add(SIMPLE), add(SIMPLE), add({"id": "other"}), "take", add(SIMPLE), "complete", add(SIMPLE)],
    "simple-after-a-failure": [add(SIMPLE), "take", "fail", add(SIMPLE)],
    "simple-while-retried": [add(SIMPLE, attempts=2), "take", "fail", add(SIMPLE)],
    "simple-not-kept": [add(SIMPLE, removeOnComplete=True), "take", "complete", add(SIMPLE)],
    "own-ids": [add(SIMPLE, jobId="a"), add(SIMPLE, jobId="b"), add(SIMPLE, jobId="a")],
    "throttle": [add(THROTTLE), add(THROTTLE), "take", "complete", add(THROTTLE)],
    "throttle-not-kept": [add(THROTTLE, removeOnComplete=True), "take", "complete", add(THROTTLE)],
    "extend": [add(EXTEND), add(EXTEND), "take", add(EXTEND), "complete", add(EXTEND)],
    "extend-what-has-no-time": [add(SIMPLE), add(EXTEND)],
    "debounce": [add(DEBOUNCE, delay=5000), add(DEBOUNCE, delay=7000), add(DEBOUNCE, delay=7000)],
    "debounce-extend": [add(DEBOUNCE_EXTEND, delay=5000), add(DEBOUNCE_EXTEND, delay=7000)],
    "debounce-too-late": [add(DEBOUNCE), add(DEBOUNCE, delay=5000), "take", add(DEBOUNCE, delay=5000)],
    "replace": [add(REPLACE, delay=5000), add(REPLACE, delay=5000), add(REPLACE, priority=3), add(REPLACE)],
    "replace-by-an-own-id": [add(REPLACE, delay=5000, jobId="a"), add(REPLACE, delay=5000, jobId="b")],
    "last": [add(LAST), add(LAST), "take", add(LAST, priority=7), add(LAST, delay=9000, lifo=True)],
    "last-and-complete": [add(LAST), "take", add(LAST), add(LAST, priority=3), "complete"],
    "last-and-fail": [add(LAST), "take", add(LAST), "fail"],
    "last-lifo": [add(LAST), "take", add(LAST, lifo=True), add({"id": "e"}), "complete"],
    "last-delayed": [add(LAST), "take", add(LAST, delay=HOUR_MS), "complete"],
    "last-own-id": [add(LAST), "take", add(LAST, jobId="mine"), "complete"],
    "last-and-nothing-parked": [add(LAST), "take", "complete", add(LAST)],
    "last-with-a-time": [add(LAST_TTL), add(LAST_TTL), "take", add(LAST_TTL), "complete"],
    "last-extend": [add(LAST_EXTEND), add(LAST_EXTEND), "take", add(LAST_EXTEND), "complete"],
    "last-replace": [add(LAST_REPLACE, delay=5000), add(LAST_REPLACE), "take", add(LAST_REPLACE), "complete"],
    "last-behind-a-time": [add(THROTTLE), "take", add(LAST), "complete"],
    "parked-by-one-that-is-not-last": [add(LAST), "take", add(LAST), add(SIMPLE), "complete"],
}
ONLY_6: dict[str, list[Step]] = {
    "reschedule": [add(RESCHEDULE, delay=5000), add(RESCHEDULE, delay=9000), add(RESCHEDULE)],
    "reschedule-too-late": [add(RESCHEDULE), add(RESCHEDULE, delay=9000)],
    "reschedule-extend": [add(RESCHEDULE_EXTEND, delay=5000), add(RESCHEDULE_EXTEND, delay=6000)],
    "stale": [add(SIMPLE), "lose", add(SIMPLE), add(SIMPLE)],
    "stale-last": [add(LAST), "take", add(LAST), "lose", add(LAST)],
    "stale-replace": [add(REPLACE), "lose", add(REPLACE)],
    "stale-extend": [add({"id": "d"}), "lose", add(EXTEND), add(EXTEND)],
    "not-stale-with-a-time": [add(THROTTLE), "lose", add(THROTTLE)],
    "replace-forgets-what-was-parked": [
        add(LAST, attempts=2, backoff=HOUR_MS), "take", add(LAST), "fail", add(LAST_REPLACE),
    ],
}  # fmt: skip


@pytest.mark.wire(65, 66, 67, 68, 69)
@pytest.mark.parametrize("steps", SEQUENCES.values(), ids=SEQUENCES.keys())
async def test_the_same_calls_leave_the_same(peer: Peer, ours: EngineQueue, steps: list[Step]) -> None:
    await compare(peer, ours, steps)


@pytest.mark.wire(71, 72)
@pytest.mark.parametrize("version", ["6"], ids=["bullmq6"])
@pytest.mark.parametrize("steps", ONLY_6.values(), ids=ONLY_6.keys())
async def test_what_only_bullmq_6_does(peer: Peer, ours: EngineQueue, steps: list[Step]) -> None:
    await compare(peer, ours, steps)


@pytest.mark.wire(65, 66, 67, 68, 69)
async def test_random_calls_leave_the_same(peer: Peer, ours: EngineQueue) -> None:
    for seed in range(12):
        await compare(peer, ours, random_steps(random.Random(seed), peer.version))


def random_steps(source: random.Random, version: str) -> list[Step]:
    """Adds of two ids in any mode, and by turns a job that is taken and one that ends."""
    flags = ["extend", "replace", "keepLastIfActive", *(["reschedule"] if version == "6" else [])]
    steps: list[Step] = []
    is_taken = False
    for _ in range(source.randint(5, 14)):
        if source.random() < 0.35:
            steps.append(source.choice(["complete", "fail"]) if is_taken else "take")
            is_taken = not is_taken
            continue
        deduplication = {"id": source.choice("dde"), **{flag: True for flag in flags if source.random() < 0.35}}
        if source.random() < 0.4:
            deduplication["ttl"] = HOUR_MS
        chosen = {"delay": 10**9, "priority": 2, "lifo": True, "attempts": 2, "removeOnComplete": True, "jobId": "x"}
        steps.append(add(deduplication, **{name: value for name, value in chosen.items() if source.random() < 0.25}))
    return steps


async def compare(peer: Peer, ours: EngineQueue, steps: list[Step]) -> None:
    their_ids = await do_theirs(peer, ours, steps)
    theirs = dump(ours)
    job: TakenJob | None = None
    our_ids = []
    for step in steps:
        if isinstance(step, dict):
            our_ids.append(await ours.add("echo", {"n": 1}, timestamp=NOW_MS, **step))
        elif step == "take":
            taken = (await ours.active.take(1, TOKEN)).jobs
            job = taken[0] if taken else None
        elif step == "lose":
            ours.raw.delete(ours.keys.job("1"))
        elif job is not None:
            await ours.finish(end_of(job, step))
    assert our_ids == their_ids
    assert dump(ours) == theirs


async def do_theirs(peer: Peer, ours: EngineQueue, steps: list[Step]) -> list[str]:
    """Carry the steps out by hand with BullMQ; answer the ids that the adds returned."""
    worker = await peer.worker(autorun=False, name="worker-1")
    ids, job_id = [], ""
    for step in steps:
        if isinstance(step, dict):
            ids.append(await peer.queue.add("echo", {"n": 1}, timestamp=NOW_MS, **step))
        elif step == "take":
            found = await worker.call("getNextJob", TOKEN)
            job_id = found["id"] if found else ""
        elif step == "lose":
            ours.raw.delete(ours.keys.job("1"))
        elif job_id and step == "complete":
            await peer.queue.job(job_id, "moveToCompleted", "done", TOKEN, False)
        elif job_id:
            await peer.node.request("failJob", handle=peer.queue.number, jobId=job_id, message="no", token=TOKEN)
    return ids


def end_of(job: TakenJob, step: str) -> Finish:
    rules = outcomes.RuleBook().of(job)
    if step == "complete":
        return outcomes.completed(job, "done", rules)
    return outcomes.failed(job, ValueError("no"), rules, lambda: 0.0)


def dump(queue: EngineQueue) -> dict[str, Any]:
    """Also which deduplication keys have a time of their own."""
    expiring = [key for key in queue.raw.keys(queue.keys.base + "de:*") if queue.raw.pttl(key) > HOUR_MS / 2]
    found = without_moments(dump_and_clear(queue))
    return {**found, "expiring": expiring}


@pytest.mark.wire(65)
async def test_who_comes_second_is_told_of_the_first(peer: Peer, ours: EngineQueue) -> None:
    """Either side refuses for the other's job, and either side's finish frees the id."""
    listener = await peer.listener()
    first = await peer.queue.add("echo", {}, deduplication=SIMPLE)
    assert await ours.add("echo", deduplication=SIMPLE) == first
    assert await peer.queue.call("getDeduplicationJobId", "d") == first
    told = (await listener.events_until("deduplicated"))[-1]
    assert (told["jobId"], told["deduplicationId"], told["deduplicatedJobId"]) == (first, "d", "2")
    await ours.finish(Finish.completed(await ours.take_one(), "1"))
    second = await ours.add("echo", deduplication=SIMPLE)
    assert second == await peer.queue.add("echo", {}, deduplication=SIMPLE) == "3"
    await (await peer.worker()).runs_until(1)
    await peer.until_state(second, "completed")
    assert await ours.add("echo", deduplication=SIMPLE) == "5"


@pytest.mark.wire(66)
async def test_a_time_outlives_the_job_and_ends(peer: Peer, ours: EngineQueue) -> None:
    first = await ours.add("echo", deduplication=THROTTLE)
    await (await peer.worker()).runs_until(1)
    await peer.until_state(first, "completed")
    assert await peer.queue.add("echo", {}, deduplication=THROTTLE) == first
    ours.raw.pexpire(ours.keys.deduplication("d"), 1)

    async def is_free() -> bool:
        return await peer.queue.call("getDeduplicationJobId", "d") is None

    await wait_until_async(is_free, "the id to be free", interval_seconds=0.002)
    assert await ours.add("echo", deduplication=THROTTLE) == "3"


@pytest.mark.wire(69, 70)
async def test_they_park_and_we_carry_on(peer: Peer, ours: EngineQueue) -> None:
    await peer.queue.add("echo", {"n": 1}, deduplication=LAST)
    job = await ours.take_one()
    await peer.queue.add("echo", {"n": 2}, deduplication=LAST)
    await peer.queue.add("echo", {"n": 3}, deduplication=LAST, priority=4, attempts=2)
    (following,) = await ours.finish(Finish.completed(job, "1"), take=1)
    assert (following.id, following.data, following.opts["attempts"]) == ("3", {"n": 3}, 2)
    assert (following.priority, following.text("deid")) == (4, "d")
    assert await peer.queue.call("getDeduplicationJobId", "d") == "3"


@pytest.mark.wire(69, 70)
async def test_we_park_and_they_carry_on(peer: Peer, ours: EngineQueue) -> None:
    await ours.add("gate", {"gate": ours.keys.queue}, deduplication=LAST)
    worker = await peer.worker()
    await worker.runs_until(1)
    await ours.add("echo", {"n": 2}, deduplication=LAST)
    await ours.add("echo", {"n": 3}, deduplication=LAST, jobId="third")
    await peer.release(ours.keys.queue)
    runs = await worker.runs_until(2)
    assert [run["id"] for run in runs] == ["1", "third"]
    assert (await peer.until_state("third", "completed"))["returnvalue"] == {"n": 3}
    assert await ours.add("echo", deduplication=LAST) == "5"


@pytest.mark.wire(68, 70)
async def test_each_replaces_what_the_other_has_delayed(peer: Peer, ours: EngineQueue) -> None:
    await peer.queue.add("echo", {"n": 1}, deduplication=DEBOUNCE, delay=60_000)
    assert await ours.add("echo", {"n": 2}, deduplication=DEBOUNCE, delay=60_000) == "2"
    assert await peer.queue.add("echo", {"n": 3}, deduplication=DEBOUNCE, delay=60_000) == "3"
    assert ours.places() == {"delayed": ["3"]}
    names = ours.event_names()
    replaced = ["removed", "debounced", "deduplicated"] if peer.version == "5" else ["removed", "deduplicated"]
    assert names == ["added", "delayed", *replaced, "added", "delayed", *replaced, "added", "delayed"]


async def test_the_key_is_freed_by_hand(peer: Peer, redis_url: str, queue_name: str) -> None:
    async with Queue(queue_name, url=redis_url) as queue:
        await queue.add("echo", {}, {"deduplication": SIMPLE})
        assert await queue.get_deduplication_job_id("d") == "1"
        assert await peer.queue.call("removeDeduplicationKey", "d") == 1
        assert await queue.get_deduplication_job_id("d") is None
        await peer.queue.add("echo", {}, deduplication=SIMPLE)
        assert await queue.remove_deduplication_key("d")
        assert not await queue.remove_deduplication_key("d")
        assert await peer.queue.call("getDeduplicationJobId", "d") is None
