"""Deduplication: the same calls leave the same queue behind, and either side carries on what the other began."""

from __future__ import annotations

from typing import Any

import pytest

from support.dumps import NOW_MS, dump_and_clear, without_moments
from support.engine import EngineQueue
from support.node_peer import Peer
from toril.engine.active import Finish, TakenJob
from toril.worker import outcomes

HOUR_MS = 3_600_000
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


async def compare(peer: Peer, ours: EngineQueue, steps: list[Step]) -> None:
    their_ids = await do_theirs(peer, ours, steps)
    theirs = dump(ours)
    job: TakenJob | None = None
    our_ids = []
    for step in steps:
        if isinstance(step, dict):
            our_ids.append(await ours.add("echo", {"n": 1}, timestamp=NOW_MS, **step))
        elif step == "take":
            job = await ours.take_one()
        elif step == "lose":
            ours.raw.delete(ours.keys.job("1"))
        elif job is not None:
            await ours.finish(end_of(job, step))
    assert our_ids == their_ids
    assert dump(ours) == theirs


async def do_theirs(peer: Peer, ours: EngineQueue, steps: list[Step]) -> list[str]:
    """Carry the steps out by hand with BullMQ; answer the ids that the adds returned."""
    worker = await peer.worker(autorun=False, name="worker-1")
    token = "test:1"
    ids, job_id = [], ""
    for step in steps:
        if isinstance(step, dict):
            ids.append(await peer.queue.add("echo", {"n": 1}, timestamp=NOW_MS, **step))
        elif step == "take":
            job_id = (await worker.call("getNextJob", token))["id"]
        elif step == "lose":
            ours.raw.delete(ours.keys.job("1"))
        elif step == "complete":
            await peer.queue.job(job_id, "moveToCompleted", "done", token, False)
        else:
            await peer.node.request("failJob", handle=peer.queue.number, jobId=job_id, message="no", token=token)
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
