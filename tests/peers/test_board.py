"""Bull Board, a dashboard for BullMQ: what its API shows of our jobs, and what its buttons do to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.engine import EngineQueue
from support.node_peer import Peer
from toril import Queue, flow
from toril.engine.worker import Finish


class Board:
    """The routes of its HTTP API, for one queue."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def ask(self, method: str, route: str, *, body: Any = None, query: Any = None, **params: str) -> Any:
        """The body of a successful answer."""
        answer = await self.peer.node.request(
            "board",
            handle=self.peer.queue.number,
            method=method,
            route=f"/api{route}",
            params={"queueName": self.peer.queue_name, **params},
            query=query or {},
            body=body or {},
        )
        assert answer["status"] < 300, answer
        return answer["body"]

    async def list(self, status: str) -> list[dict[str, Any]]:
        """The jobs on the page of one state; `latest` = of all."""
        query = {"activeQueue": self.peer.queue_name, "status": status, "page": "1", "jobsPerPage": "20"}
        (queue,) = (await self.ask("get", "/queues", query=query))["queues"]
        jobs: list[dict[str, Any]] = queue["jobs"]
        return jobs


@pytest.fixture
def board(peer: Peer) -> Board:
    return Board(peer)


@pytest.fixture
async def queue(redis_url: str, queue_name: str, version: Any) -> AsyncIterator[Queue]:
    async with Queue(queue_name, url=redis_url, paused_layout=version) as opened:
        yield opened


@pytest.mark.requirement("I-22")
@pytest.mark.wire(99)
async def test_what_it_shows(board: Board, queue: Queue, ours: EngineQueue) -> None:
    await queue.add("page-save", {"pageId": "p-1"}, {"attempts": 2})
    job = await ours.take_one()
    await ours.active.progress(job.id, "50")
    await ours.active.log(job.id, "first row")
    await ours.finish(Finish.completed(job, '{"saved":true}'))
    await queue.add("page-save", {"pageId": "p-2"})
    await ours.finish(Finish.failed(await ours.take_one(), "no database", '["Traceback: no database"]'))
    for options in ({}, {"delay": 60_000}, {"priority": 3}):
        await queue.add("page-save", {"pageId": "p-3"}, options)

    query = {"activeQueue": queue.name, "status": "completed", "page": "1", "jobsPerPage": "20"}
    (shown,) = (await board.ask("get", "/queues", query=query))["queues"]
    counts = {state: count for state, count in shown["counts"].items() if count}
    assert counts == {"completed": 1, "failed": 1, "waiting": 1, "delayed": 1, "prioritized": 1}
    (completed,) = shown["jobs"]
    card = {name: completed[name] for name in ("name", "data", "returnValue", "progress", "attempts", "isFailed")}
    assert card == {
        "name": "page-save", "data": {"pageId": "p-1"}, "returnValue": {"saved": True}, "progress": 50, "attempts": 1,
        "isFailed": False,
    }  # fmt: skip
    (failed,) = await board.list("failed")
    assert (failed["failedReason"], failed["stacktrace"]) == ("no database", ["Traceback: no database"])
    assert await board.ask("get", "/queues/:queueName/:jobId/logs", jobId=job.id) == ["first row"]


@pytest.mark.requirement("I-22")
@pytest.mark.wire(99)
async def test_what_its_buttons_do(board: Board, queue: Queue, ours: EngineQueue) -> None:
    for _ in range(3):
        await queue.add("echo", {})
        await ours.finish(Finish.failed(await ours.take_one(), "no", "[]"))
    await board.ask("put", "/queues/:queueName/:jobId/retry", jobId="1")
    assert ours.places() == {"wait": ["1"], "failed": ["2", "3"]}
    await board.ask("put", "/queues/:queueName/:jobId/clean", jobId="2")
    assert ours.places() == {"wait": ["1"], "failed": ["3"]}
    await board.ask("put", "/queues/:queueName/retry/:queueStatus", queueStatus="failed")
    assert ours.places() == {"wait": ["1", "3"]}
    later = await queue.add("echo", {}, {"delay": 60_000})
    await board.ask("put", "/queues/:queueName/:jobId/promote", jobId=later.id)
    for job in await ours.take(3):
        await ours.finish(Finish.completed(job, "1"))
    await board.ask("put", "/queues/:queueName/pause")
    assert await queue.is_paused()
    await board.ask("put", "/queues/:queueName/resume")
    assert not await queue.is_paused()


@pytest.mark.wire(99)
async def test_flows_and_schedules(board: Board, queue: Queue, ours: EngineQueue) -> None:
    parent = await flow(queue.draft("report", {}), [queue.draft("part", {"n": n}) for n in range(2)]).enqueue()
    tree = await board.ask("get", "/queues/:queueName/:jobId/flow", jobId=parent.id, query={})
    assert tree["flowRoot"]["name"] == "report"
    assert [child["name"] for child in tree["flowRoot"]["children"]] == ["part", "part"]
    (waiting,) = await board.list("waiting-children")
    assert waiting["name"] == "report"

    await queue.schedulers.upsert("daily", name="tidy", data={"n": 1}, cron="0 2 * * *", tz="Europe/Berlin")
    (schedule,) = (await board.ask("get", "/job-schedulers"))["schedulers"]
    shown = {name: schedule[name] for name in ("id", "name", "pattern", "tz")}
    assert shown == {"id": "daily", "name": "tidy", "pattern": "0 2 * * *", "tz": "Europe/Berlin"}
    await board.ask("put", "/queues/:queueName/job-schedulers/:schedulerId/remove", schedulerId="daily")
    assert await queue.schedulers.list() == []
    assert not ours.raw.exists(ours.keys.base + "repeat", ours.keys.base + "delayed")
