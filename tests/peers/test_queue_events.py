"""Events: theirs read ours, ours read theirs, and nobody is stopped by what is strange."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from toril import Queue
from toril.engine import administration, operations
from toril.engine.events import QueueEvent, QueueEvents
from toril.engine.worker import Finish
from toril.jobs import codec
from toril.jobs.job import JobState

VALUES: list[Any] = [
    None, 0, -1.5, 1e300, True, False, "", "null", '"', "\\", "\u2028\x00\x7f", "ünï 🎉", [], {}, "completed", 2**53,
    {"": {"__proto__": []}}, [None, [[]]],
]  # fmt: skip


@pytest.mark.wire(93)
@pytest.mark.requirement("Z-25", "C-28", "I-24")
async def test_their_listener_reads_all_that_we_tell(peer: Peer, ours: EngineQueue) -> None:
    for value in VALUES:
        job_id = await ours.add(codec.encode(value)[:50], value)
        job = await ours.take_one()
        await ours.active.progress(job_id, codec.encode(value, "progress"))
        await ours.finish(Finish.completed(job, codec.encode(value, "return value")))
    for reason in ("", "null", '{"', "ünï 🎉\n", "a\x00b"):
        await ours.add("job", attempts=2)
        await ours.finish(Finish.retry(await ours.take_one(), reason, "[]", 0))
        await ours.finish(Finish.failed(await ours.take_one(), reason, "[]", attempts=2))
    await ours.add("job", delay=60_000)
    await ours.add("job", priority=5, jobId="twice")
    await ours.add("job", jobId="twice")
    for work in (
        administration.promote_all(ours.keys), administration.retry_all(ours.keys), administration.pause(ours.keys),
        administration.resume(ours.keys), administration.remove(ours.keys, "twice"),
        administration.clean(ours.keys, JobState.COMPLETED), administration.drain(ours.keys),
        administration.publish_event(ours.keys, "deployed", {"version": '{"'}),
    ):  # fmt: skip
        await operations.execute(ours.connection, work)
    listener = await peer.listener("deployed")
    heard = await listener.events_until("deployed")
    assert [event["event"] for event in heard] == ours.event_names()
    results = [event["returnvalue"] for event in heard if event["event"] == "completed"]
    assert results == json.loads(json.dumps(VALUES))
    assert [event["data"] for event in heard if event["event"] == "progress"] == results


async def read_until(events: QueueEvents, name: str) -> list[QueueEvent]:
    found: list[QueueEvent] = []
    async with asyncio.timeout(30):
        async for event in events:
            found.append(event)
            if event.name == name:
                break
    return found


@pytest.mark.wire(94)
@pytest.mark.requirement("Z-25", "C-28", "I-24", "X-25")
async def test_we_read_all_that_they_tell(peer: Peer, ours: EngineQueue) -> None:
    await peer.queue.add("report", {"progress": {"half": [1, None]}, "rows": [], "value": {"é": 1}}, jobId="good")
    await peer.queue.add("unrecoverable", {"message": "no"}, jobId="bad")
    await peer.queue.add("echo", None, jobId="later", delay=300_000_000_000, timestamp=1_790_000_000_000)
    once = await peer.queue.add("echo", {}, deduplication={"id": "d"}, delay=3_600_000)
    await peer.queue.add("echo", {}, deduplication={"id": "d"}, delay=3_600_000)
    worker = await peer.worker()
    await peer.until_state("good", "completed")
    await peer.until_state("bad", "failed")
    await worker.close()
    for call in ("pause", "resume"):
        await peer.queue.call(call)
    await peer.queue.call("remove", once)
    await peer.queue.call("clean", 0, 0, "completed")
    producer = await peer.event_producer()
    await producer.call("publishEvent", {"eventName": "deployed", "version": "7", "jobId": "good"})
    async with Queue(ours.keys.queue, url=peer.url) as queue, queue.events(after="0") as events:
        heard = await read_until(events, "deployed")
    assert [event.name for event in heard] == ours.event_names()
    by_name = {event.name: event for event in heard}
    assert by_name["completed"].fields == {"returnvalue": {"é": 1}, "prev": "active"}
    assert by_name["progress"].fields == {"data": {"half": [1, None]}}
    assert by_name["failed"].fields == {"failedReason": "no", "prev": "active"}
    delays = {event.job_id: event.fields["delay"] for event in heard if event.name == "delayed"}
    assert delays["later"] == 2_090_000_000_000
    assert by_name["deduplicated"].fields["deduplicationId"] == "d"
    assert ("debounced" in by_name) is (peer.version == "5")
    assert by_name["removed"].job_id == once
    assert (by_name["deployed"].job_id, by_name["deployed"].fields) == ("good", {"version": "7"})


@pytest.mark.wire(97)
async def test_they_list_our_readers(peer: Peer, ours: EngineQueue) -> None:
    async with Queue(ours.keys.queue, url=peer.url) as queue, queue.events() as events:
        reading = asyncio.create_task(anext(events))
        await peer.queue.add("echo", {})
        assert (await asyncio.wait_for(reading, 30)).name == "added"
        (found,) = await peer.queue.call("getQueueEvents")
        assert found["rawname"] == ours.keys.client_name(":qe")
