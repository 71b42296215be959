"""BullMQ adds and watches, our engine works the jobs off."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import FINISH_MS, Peer, PeerError
from support.waiting import wait_until_async
from toril.engine.worker import Finish
from toril.jobs.retention import KEEP_NONE


@pytest.mark.requirement("Z-21", "Z-24", "Z-25")
@pytest.mark.wire(15, 18, 19, 20)
async def test_one_job_from_add_to_result(peer: Peer, ours: EngineQueue) -> None:
    listener = await peer.listener()
    job_id = await peer.queue.add("page-save", {"pageId": "p-1"})
    assert await peer.queue.job(job_id, "getState") == "waiting"
    job = await ours.take_one()
    assert (job.name, job.data) == ("page-save", {"pageId": "p-1"})
    assert await peer.queue.job(job_id, "getState") == "active"
    theirs = await peer.queue.job(job_id)
    assert theirs["processedOn"] == job.processed_on_ms
    await ours.finish(Finish.completed(job, '{"saved":true}'), take=1)
    assert await peer.finished(listener, job_id) == {"saved": True}
    assert await peer.queue.job(job_id, "getState") == "completed"
    end = await peer.queue.job(job_id)
    assert (end["returnvalue"], end["attemptsMade"]) == ({"saved": True}, 1)
    assert end["finishedOn"] >= end["processedOn"] >= end["timestamp"]
    assert await listener.events_until("drained") == [
        {"event": "added", "jobId": job_id, "name": "page-save"},
        {"event": "waiting", "jobId": job_id},
        {"event": "active", "jobId": job_id, "prev": "waiting"},
        {"event": "completed", "jobId": job_id, "returnvalue": {"saved": True}, "prev": "active"},
        {"event": "drained"},
    ]


REASONS = ["boom", "zwei\nZeilen: ünï 🎉", '{"looks":"like JSON"}', "null"]


@pytest.mark.wire(16)
@pytest.mark.parametrize("reason", REASONS, ids=repr)
async def test_a_failure_rejects_with_the_exact_message(peer: Peer, ours: EngineQueue, reason: str) -> None:
    listener = await peer.listener()
    job_id = await peer.queue.add("image-upload", {})
    trace = ["Traceback (most recent call last):\n  …\nValueError: boom"]
    await ours.finish(Finish.failed(await ours.take_one(), reason, json.dumps(trace), attempts=0))
    with pytest.raises(PeerError) as caught:
        await peer.finished(listener, job_id)
    assert str(caught.value) == reason
    end = await peer.queue.job(job_id)
    assert (end["failedReason"], end["stacktrace"]) == (reason, trace)
    told = await listener.events_until("retries-exhausted")
    assert [event["event"] for event in told][2:5] == ["active", "failed", "retries-exhausted"]
    assert told[3]["failedReason"] == reason


@pytest.mark.wire(17)
@pytest.mark.parametrize("text", ["null", "0", "false", '""', '"text"', "[1,[2]]", '{"a":"ünï 🎉"}', "1.5"])
async def test_results_parse_back(peer: Peer, ours: EngineQueue, text: str) -> None:
    listener = await peer.listener()
    job_id = await peer.queue.add("n")
    await ours.finish(Finish.completed(await ours.take_one(), text))
    assert await peer.finished(listener, job_id) == json.loads(text)
    assert (await peer.queue.job(job_id))["returnvalue"] == json.loads(text)


@pytest.mark.wire(60)
@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_who_waits_hears_of_a_job_that_is_not_kept(peer: Peer, ours: EngineQueue, outcome: str) -> None:
    listener = await peer.listener()
    waiting = peer.node.send(
        "addAndWait", handle=peer.queue.number, events=listener.number, args=["n", {}], ttl=FINISH_MS
    )

    async def taken() -> Any:
        return await ours.take()

    (job,) = await wait_until_async(taken, "their job")
    # `waitUntilFinished` asks for the job once; from then on only the event can tell it.
    await peer.settle()
    if outcome == "completed":
        await ours.finish(Finish.completed(job, "[1]", KEEP_NONE))
        assert await asyncio.wrap_future(waiting) == [1]
    else:
        await ours.finish(Finish.failed(job, "gone", "[]", KEEP_NONE))
        with pytest.raises(PeerError, match=r"^gone$"):
            await asyncio.wrap_future(waiting)
    assert ours.places() == {}
    assert not ours.raw.exists(ours.keys.job(job.id))


@pytest.mark.wire(7)
async def test_the_order_of_priorities_lifo_and_waiting(peer: Peer, ours: EngineQueue) -> None:
    jobs: list[tuple[str, dict[str, Any]]] = [
        ("low-1", {"priority": 5}),
        ("high", {"priority": 1}),
        ("low-2", {"priority": 5}),
        ("first", {}),
        ("second", {}),
        ("due-important", {"priority": 2, "delay": 1, "timestamp": 1000}),
        ("due", {"delay": 1, "timestamp": 1000}),
        ("pushed-in", {"lifo": True}),
    ]
    bulk = [{"name": "n", "data": {}, "opts": {"jobId": job_id, **options}} for job_id, options in jobs]
    await peer.queue.call("addBulk", bulk)
    order = ["pushed-in", "first", "second", "due", "high", "due-important", "low-1", "low-2"]
    assert [job.id for job in await ours.take(10)] == order


@pytest.mark.wire(5)
async def test_a_delayed_job_becomes_ours_when_it_is_due(peer: Peer, ours: EngineQueue) -> None:
    """Their marker tells us the moment."""
    job_id = await peer.queue.add("n", {}, delay=3_600_000)
    stored = await peer.queue.job(job_id)
    due_ms = stored["timestamp"] + 3_600_000
    assert (await ours.active.take(1, ours.token())).next_due_ms == due_ms
    marker = await ours.blocking.wait_marker(ours.keys.marker, 30)
    assert marker is not None
    assert int(marker) == due_ms
    await peer.queue.job(job_id, "changeDelay", 400)
    due_ms = int(ours.raw.zscore(ours.keys.delayed, job_id)) // 4096
    (job,) = await wait_until_async(ours.take, "the delayed job", interval_seconds=0.01)
    assert job.id == job_id
    assert due_ms <= (job.processed_on_ms or 0) <= due_ms + 30_000
    assert (await peer.queue.job(job_id))["delay"] == 0


@pytest.mark.wire(96)
async def test_progress_logs_and_data_as_they_read_them(peer: Peer, ours: EngineQueue) -> None:
    listener = await peer.listener()
    job_id = await peer.queue.add("n", {"old": True})
    await ours.take_one()
    for progress in ("50", '{"page":2}', '"half"', "true"):
        await ours.active.progress(job_id, progress)
        assert (await peer.queue.job(job_id))["progress"] == json.loads(progress)
    for number in range(3):
        await ours.active.log(job_id, f"row {number}", 2)
    assert await peer.queue.call("getJobLogs", job_id) == {"logs": ["row 1", "row 2"], "count": 2}
    await ours.active.update_data(job_id, '{"new":[1]}')
    assert (await peer.queue.job(job_id))["data"] == {"new": [1]}
    told = await listener.events_until("progress")
    assert told[3]["data"] == 50


@pytest.mark.wire(8)
async def test_an_id_that_is_taken(peer: Peer, ours: EngineQueue) -> None:
    """Whoever comes second gets the first one's job."""
    assert await peer.queue.add("n", {"by": "them"}, jobId="invoice") == "invoice"
    assert await ours.add("n", {"by": "us"}, jobId="invoice") == "invoice"
    assert (await peer.queue.job("invoice"))["data"] == {"by": "them"}
    await ours.add("n", {"by": "us"}, jobId="order")
    await peer.queue.add("n", {"by": "them"}, jobId="order")
    assert (await peer.queue.job("order"))["data"] == {"by": "us"}
    assert ours.event_names().count("duplicated") == 2
    assert len(await ours.take(10)) == 2


@pytest.mark.wire(9)
async def test_refused_ids_are_theirs_and_ours(peer: Peer, ours: EngineQueue) -> None:
    """We refuse all that they refuse."""
    for job_id in ("0", "123", "-5", "0:x", "a:b"):
        with pytest.raises(PeerError):
            await peer.queue.add("n", {}, jobId=job_id)
        with pytest.raises(ValueError, match="jobId"):
            await ours.add("n", {}, jobId=job_id)
    for job_id in ("007", "1e3", "12a"):
        assert await peer.queue.add("n", {}, jobId=job_id) == await ours.add("n", {}, jobId=job_id)


@pytest.mark.wire(26)
async def test_what_is_added_while_nothing_runs_waits_for_us(peer: Peer, ours: EngineQueue) -> None:
    """Their add leaves the token that ends our wait."""
    waiting = asyncio.create_task(ours.blocking.wait_marker(ours.keys.marker, 60))
    await peer.queue.add("n")
    assert await waiting == 0
    assert len(await ours.take()) == 1


async def test_trace_context_of_either_side_is_read_by_the_other(peer: Peer, ours: EngineQueue) -> None:
    telemetry = {"metadata": '{"traceparent":"00-ab-cd-01"}', "omitContext": False}
    await peer.queue.add("theirs", {}, telemetry=telemetry)
    assert (await ours.take_one()).opts["telemetry"] == telemetry
    job_id = await ours.add("ours", {}, telemetry=telemetry)
    assert (await peer.queue.job(job_id))["opts"]["telemetry"] == telemetry
