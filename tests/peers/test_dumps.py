"""What we write equals what BullMQ writes: field by field, container by container, event by event."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.dumps import NOW_MS, dump, dump_and_clear
from support.engine import EngineQueue
from support.node_peer import Peer
from support.waiting import wait_until_async
from toril import errors
from toril.engine.worker import Finish, TakenJob
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions
from toril.worker import outcomes

ADDS = {
    "standard": [{}],
    "attempts": [{"attempts": 3, "backoff": {"type": "exponential", "delay": 5000}}],
    "bare-backoff": [{"attempts": 2, "backoff": 700}],
    "jitter": [{"attempts": 2, "backoff": {"type": "fixed", "delay": 700, "jitter": 0.5}}],
    "retention": [
        {"removeOnComplete": {"age": 86400, "count": 1000}, "removeOnFail": {"age": 604800, "count": 5000}},
        {"removeOnComplete": True, "removeOnFail": False},
        {"removeOnComplete": 0, "removeOnFail": 7},
    ],
    "limits": [{"keepLogs": 3, "stackTraceLimit": 2, "sizeLimit": 1000}],
    "custom-id": [{"jobId": "invoice-7"}, {"jobId": "invoice-7"}, {}],
    "telemetry": [
        {"telemetry": {"metadata": '{"traceparent":"00-ab-cd-01"}'}},
        {"telemetry": {"metadata": "ü", "omitContext": False}},
        {"telemetry": {"omitContext": True}},
        {"tm": "raw"},
    ],
    "always": [{"attempts": 1e300, "keepLogs": 1e300}],
    "lifo": [{}, {"lifo": True}, {}],
    "delayed": [{"delay": 60_000}, {"delay": 60_000}, {"delay": 30_000}],
    "delayed-prioritized": [{"delay": 60_000, "priority": 4}],
    "prioritized": [{"priority": 5}, {"priority": 1}, {"priority": 5}, {}],
}


@pytest.mark.requirement("Z-17", "Z-18", "Z-19", "Z-20", "Z-21", "Z-22", "Z-40")
@pytest.mark.wire(2, 4, 8)
@pytest.mark.parametrize("adds", ADDS.values(), ids=ADDS.keys())
async def test_adds(peer: Peer, ours: EngineQueue, adds: list[dict[str, Any]]) -> None:
    """The same adds leave the same queue behind."""
    data = {"pageId": "p-1", "newPageData": "# ünï 🎉", "userId": None}
    for options in adds:
        await peer.queue.add("page-save", data, timestamp=NOW_MS, **options)
    theirs = dump_and_clear(ours)
    for options in adds:
        await ours.add("page-save", data, timestamp=NOW_MS, **options)
    assert dump(ours) == theirs


@pytest.mark.wire(2, 4)
async def test_bulk_adds(peer: Peer, ours: EngineQueue) -> None:
    options: list[dict[str, Any]] = [{}, {"priority": 3}, {"delay": 5000}, {"lifo": True}, {"jobId": "a"}, {}]
    options = [{"timestamp": NOW_MS, **each} for each in options]
    await peer.queue.call("addBulk", [{"name": "n", "data": {}, "opts": each} for each in options])
    theirs = dump_and_clear(ours)
    await ours.producer.add([NewJob.create("n", {}, JobOptions.from_bullmq(each)) for each in options])
    assert dump(ours) == theirs


LIVES: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    # what happens: (job's name, data, options, runs)
    "completed": ("echo", {"a": [1, None]}, {}, 1),
    "nothing-returned": ("nothing", {}, {}, 1),
    "prioritized": ("echo", {}, {"priority": 3}, 1),
    "not-kept": ("echo", {}, {"removeOnComplete": True}, 1),
    "failed": ("fail", {"message": "no"}, {}, 1),
    "failed-once-allowed": ("fail", {"message": "no"}, {"attempts": 1}, 1),
    "failed-and-not-kept": ("fail", {"message": "no"}, {"removeOnFail": True}, 1),
    "exhausted": ("fail", {"message": "no"}, {"attempts": 3, "backoff": {"type": "fixed", "delay": 5}}, 3),
    "exhausted-at-once": ("fail", {"message": "no"}, {"attempts": 2}, 2),
    "exhausted-with-priority": ("fail", {"message": "no"}, {"attempts": 2, "priority": 2}, 2),
    "recovered": ("failTimes", {"message": "no", "times": 1}, {"attempts": 2, "backoff": 5}, 2),
    "no-traces": ("fail", {"message": "no"}, {"attempts": 2, "stackTraceLimit": 0}, 2),
    "last-trace": ("fail", {"message": "no"}, {"attempts": 2, "stackTraceLimit": 1}, 2),
    "unrecoverable": ("unrecoverable", {"message": "no"}, {"attempts": 3}, 1),
    "progress-and-logs": ("report", {"progress": 50, "rows": ["a", "b"], "value": 0}, {"keepLogs": 1}, 1),
}


@pytest.mark.requirement("Z-24", "Z-26", "Z-29", "I-21")
@pytest.mark.wire(19, 20, 25, 29, 31, 33)
@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES.keys())
async def test_lives(peer: Peer, ours: EngineQueue, life: tuple[str, dict[str, Any], dict[str, Any], int]) -> None:
    """The same job, worked off by their worker and by our engine, leaves the same."""
    name, data, options, runs = life
    await peer.queue.add(name, data, timestamp=NOW_MS, **options)
    worker = await peer.worker(name="worker-1")

    async def is_over() -> bool:
        return len(await worker.runs()) == runs and "drained" in ours.event_names()

    await wait_until_async(is_over, f"{runs} runs by their worker")
    await worker.close()
    theirs = without_times(dump(ours))
    ours.raw.flushdb()

    await peer.queue.add(name, data, timestamp=NOW_MS, **options)
    (job,) = await ours.take()
    for left in reversed(range(runs)):
        if name == "report":
            await ours.active.progress(job.id, json.dumps(data["progress"]))
            for row in data["rows"]:
                await ours.active.log(job.id, row, options["keepLogs"])
        taken = await ours.finish(end_of(job), take=1)
        if left:
            (job,) = taken or await wait_until_async(ours.take, "the next attempt", interval_seconds=0.002)
    assert without_times(dump(ours)) == theirs


def end_of(job: TakenJob) -> Finish:
    """What their worker's function does, decided as our worker decides it."""
    rules = outcomes.RuleBook().of(job)
    problem: Exception = ValueError(job.data.get("message"))
    if job.name == "unrecoverable":
        problem = errors.UnrecoverableError(job.data["message"])
    elif job.name == "failTimes":
        if job.attempts_made >= job.data["times"]:
            return outcomes.completed(job, "recovered", rules)
        problem = ValueError(f"{job.data['message']} {job.attempts_made + 1}")
    elif job.name != "fail":
        results = {"echo": job.data, "nothing": None, "report": job.data.get("value")}
        return outcomes.completed(job, results[job.name], rules)
    return outcomes.failed(job, problem, rules, lambda: 0.0)


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    """A dump without what no two runs share: moments, stack traces' texts, wake-ups and the stalled check."""
    for name in ("marker", "stalled-check", "stalled"):
        found.pop(name, None)
    for name in ("completed", "failed"):
        if name in found:
            found[name] = [job_id for job_id, _ in found[name]]
    for event in found["events"]:
        if event["event"] == "delayed":
            event["delay"] = "some moment"
    job = found.get("1", {})
    for field in ("processedOn", "finishedOn"):
        if field in job:
            job[field] = "some moment"
    if "stacktrace" in job:
        job["stacktrace"] = len(json.loads(job["stacktrace"]))
    return found
