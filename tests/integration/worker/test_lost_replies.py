"""Replies that never come, and a Redis that goes away: each job runs once and ends once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from support import invariants, ports, soak
from support.engine import EngineQueue, open_queue
from support.proxy import Proxy, open_proxy
from support.redis_server import RedisServer
from support.waiting import wait_until_async
from support.worker_inside import StartWorker
from toril import Job, Queue
from toril.engine import lua_loader

FAR = 1_000_000
KIND = b"\r\n$9\r\ncompleted\r\n"
"""An argument of a finish; the key's name is longer."""


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with open_proxy(redis_server.port) as opened:
        yield opened


lengths = pytest.mark.parametrize("rounds", soak.lengths(20, 1000))


def through(proxy: Proxy, redis_url: str) -> str:
    return f"redis://127.0.0.1:{proxy.port}/{redis_url.rpartition('/')[2]}"


def is_finish(request: bytes) -> bool:
    return lua_loader.load("finish_and_take").sha.encode() in request and KIND in request


def is_take(request: bytes) -> bool:
    return lua_loader.load("finish_and_take").sha.encode() in request and KIND not in request


@pytest.mark.requirement("T09")
@lengths
async def test_a_finish_whose_reply_is_lost_is_recorded_once(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, proxy: Proxy, redis_url: str, rounds: int
) -> None:
    runs: list[int] = []

    @tasks.task
    async def step(number: int) -> int:
        runs.append(number)
        return number

    async with worker(tasks, url=through(proxy, redis_url), concurrency=2):
        await (await step.enqueue(-1)).result(30)
        for number in range(rounds):
            proxy.lose_reply(is_finish)
            handles = [await step.enqueue(number), await step.enqueue(number + FAR)]
            assert [await handle.result(30) for handle in handles] == [number, number + FAR]

        async def is_quiet() -> bool:
            return "active" not in stored.places()

        await wait_until_async(is_quiet, "the last finish")
    assert proxy.cuts == rounds
    assert sorted(runs) == sorted([-1, *range(rounds), *range(FAR, FAR + rounds)])
    assert stored.event_names().count("completed") == len(runs)
    assert {stored.hash(job_id)["atm"] for job_id in stored.places()["completed"]} == {"1"}


@pytest.mark.requirement("T09")
async def test_a_finish_of_a_job_that_is_not_kept(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, proxy: Proxy, redis_url: str
) -> None:
    runs: list[int] = []

    @tasks.task
    async def step(number: int) -> None:
        runs.append(number)

    async with worker(tasks, url=through(proxy, redis_url)):
        await (await tasks.add("step", {"number": 0})).result(30)
        proxy.lose_reply(is_finish)
        await (await tasks.add("step", {"number": 1}, {"removeOnComplete": True})).result(30)
        await (await tasks.add("step", {"number": 2})).result(30)
    assert proxy.cuts == 1
    assert runs == [0, 1, 2]


@pytest.mark.requirement("T09")
async def test_a_retry_that_another_worker_has_taken_is_not_told_as_lost(
    tasks: Queue, worker: StartWorker, proxy: Proxy, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    runs: list[str | None] = []

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        runs.append(job.record.processed_by)
        if job.record.processed_by == "first":
            await may_fail.wait()
            raise OSError("once more")
        await may_end.wait()

    async def is_running() -> bool:
        return runs[-1:] == ["first"]

    async def is_taken() -> bool:
        return runs[-1:] == ["second"]

    for _ in range(5):
        may_fail, may_end = asyncio.Event(), asyncio.Event()
        async with worker(tasks, name="first", url=through(proxy, redis_url)) as first:
            handle = await tasks.add("step", {}, {"attempts": 2})
            await wait_until_async(is_running, "the first attempt")
            async with worker(tasks, name="second"):
                proxy.lose_reply(lambda request: b"\r\n$5\r\nretry\r\n" in request)
                # It would take the job again itself.
                first.stop()
                may_fail.set()
                await wait_until_async(is_taken, "the second attempt")
                may_end.set()
                await handle.result(30)
    assert proxy.cuts == 5
    assert runs == ["first", "second"] * 5
    assert "job lost" not in caplog.text


@pytest.mark.requirement("T07", "T09")
@lengths
async def test_jobs_taken_by_a_call_whose_reply_is_lost_are_run(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, proxy: Proxy, redis_url: str, rounds: int
) -> None:
    runs: list[int] = []

    @tasks.task
    async def step(number: int) -> int:
        runs.append(number)
        return number

    async with worker(tasks, url=through(proxy, redis_url), concurrency=3, stalled_interval_ms=60_000):
        await (await step.enqueue(-1)).result(30)
        for number in range(rounds):
            proxy.lose_reply(is_take)
            handles = await tasks.add_bulk([step.draft(number), step.draft(number + FAR)])
            assert [await handle.result(30) for handle in handles] == [number, number + FAR]
    assert proxy.cuts == rounds
    assert sorted(runs) == sorted([-1, *range(rounds), *range(FAR, FAR + rounds)])
    assert {stored.hash(job_id)["ats"] for job_id in stored.places()["completed"]} == {"1"}


@pytest.mark.requirement("T05")
async def test_jobs_that_come_when_their_locks_are_over_are_not_run(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, proxy: Proxy, redis_url: str
) -> None:
    """As for a worker that is put to sleep before it reads the answer: others have its jobs by then."""
    runs: list[str | None] = []

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        runs.append(job.record.processed_by)

    async def is_held() -> bool:
        return proxy.is_holding and stored.hash("2").get("pb") == "asleep"

    checks = {"stalled_interval_ms": 100}
    async with worker(tasks, name="first"):
        await (await step.enqueue()).result(30)
    handle = await step.enqueue()
    proxy.hold_reply(is_take)
    async with worker(tasks, name="asleep", url=through(proxy, redis_url), lock_ms=3000, lock_renew_ms=100, **checks):
        await wait_until_async(is_held, "the take whose reply is held up")
        async with worker(tasks, name="awake", **checks):
            await handle.result(30)
        proxy.release()
        await (await step.enqueue()).result(30)
    assert runs == ["first", "awake", "asleep"]
    kept = invariants.assert_sound(stored.raw, tasks.name)
    assert [kept.jobs[job_id]["ats"] for job_id in "123"] == ["1", "2", "1"]


@pytest.mark.requirement("T07")
async def test_a_take_that_is_carried_out_when_nobody_waits_for_it_any_more(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, proxy: Proxy, redis_url: str
) -> None:
    """The network delivers it after its connection is closed and all is found in order: its job counts as stalled."""
    runs: list[str] = []
    may_end = asyncio.Event()

    @tasks.task
    async def step(*, job: Job = Job.current()) -> None:
        runs.append(job.id)
        await may_end.wait()

    async def is_running() -> bool:
        return runs == ["1"] and not proxy.is_armed

    async def is_taken() -> bool:
        return stored.places() == {"active": ["1", "2"]}

    locks: dict[str, Any] = {"lock_ms": 4000, "lock_renew_ms": 100, "stalled_interval_ms": 100}
    proxy.delay_request(is_take)
    async with worker(tasks, url=through(proxy, redis_url), **locks):
        first = await step.enqueue()
        await wait_until_async(is_running, "the job to be taken by another call")
        last = await step.enqueue()
        proxy.release()
        await wait_until_async(is_taken, "the late take")
        may_end.set()
        await first.result(30)
        await last.result(30)
    assert runs == ["1", "2"]
    kept = invariants.assert_sound(stored.raw, tasks.name)
    assert [(kept.jobs[job_id]["ats"], kept.jobs[job_id].get("stc")) for job_id in "12"] == [("1", None), ("2", "1")]


@pytest.mark.requirement("T07")
@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_job_taken_by_a_worker_that_drains_was_not_started(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, proxy: Proxy, redis_url: str, is_answered: bool
) -> None:
    """It is given back, and does not fail as one that was started too often."""

    @tasks.task
    async def step() -> str:
        return "ran"

    async def is_taken() -> bool:
        return proxy.is_holding and "active" in stored.places()

    # So that the server knows the script: else what is held up is that it does not.
    async with worker(tasks):
        await (await step.enqueue()).result(30)
    handle = await step.enqueue()
    proxy.hold_reply(is_take)
    async with worker(tasks, url=through(proxy, redis_url), max_started_attempts=1) as drained:
        await wait_until_async(is_taken, "the take whose reply is held up")
        drained.stop()
        if not is_answered:
            proxy.lose_reply(lambda request: b"\r\n$7\r\nrequeue\r\n" in request)
        proxy.release()
    assert stored.places() == {"wait": [handle.id], "completed": ["1"]}
    assert (stored.hash(handle.id)["ats"], proxy.cuts) == ("0", 0 if is_answered else 1)
    async with worker(tasks, max_started_attempts=1):
        assert await handle.result(30) == "ran"


async def test_a_wake_up_that_overtakes_an_older_reply_is_not_forgotten(
    tasks: Queue, worker: StartWorker, stored: EngineQueue, proxy: Proxy, redis_url: str
) -> None:
    """The reply tells of an empty queue, and comes after the news of a job that was added since."""
    may_end = asyncio.Event()

    @tasks.task
    async def step() -> None:
        await may_end.wait()

    def waiting() -> int:
        clients = stored.raw.client_list()
        mine = [client for client in clients if client["db"] == str(stored.settings.db)]
        return sum(client["cmd"] == "bzpopmin" and "b" in client["flags"] for client in mine)

    async def is_waiting() -> bool:
        return waiting() == 1 and stored.places() == {"active": ["1"]}

    async def is_awake() -> bool:
        return waiting() == 0

    async with worker(tasks, url=through(proxy, redis_url), concurrency=2, idle_poll_seconds=60):
        first = await step.enqueue()
        await wait_until_async(is_waiting, "the worker to wait for more")
        proxy.hold_reply(is_finish)
        may_end.set()
        await first.result(30)
        last = await step.enqueue()
        await wait_until_async(is_awake, "the wake-up to be handed out")
        proxy.release()
        await last.result(30)


def is_add(request: bytes) -> bool:
    return lua_loader.load("add_jobs").sha.encode() in request


@pytest.mark.requirement("T10")
@lengths
@pytest.mark.parametrize("how", ["awaited", "without a loop"])
async def test_an_add_whose_reply_is_lost_is_repeated_by_its_id(
    queue_name: str, stored: EngineQueue, proxy: Proxy, redis_url: str, rounds: int, how: str
) -> None:
    async with Queue(queue_name, url=through(proxy, redis_url)) as far_away:
        await far_away.add("step", {}, {"jobId": "first"})
        for number in range(rounds):
            proxy.lose_reply(is_add)
            options = {"jobId": f"job-{number}"}
            if how == "awaited":
                added = (await far_away.add("step", {"number": number}, options)).id
            else:
                added = (await asyncio.to_thread(far_away.sync.add, "step", {"number": number}, options)).id
            assert added == options["jobId"]
            # A user who was told of a failure may as well do it again.
            assert (await far_away.add("step", {"number": -1}, options)).id == options["jobId"]
    assert proxy.cuts == rounds
    kept = invariants.assert_sound(stored.raw, queue_name)
    assert kept.containers["wait"] == ["job-" + str(number) for number in reversed(range(rounds))] + ["first"]
    assert [event["event"] for event in kept.events].count("added") == rounds + 1
    assert {kept.jobs[f"job-{number}"]["data"] for number in range(rounds)} == {
        f'{{"number":{number}}}' for number in range(rounds)
    }


class Outage:
    """A Redis of its own that keeps its data while it is away, and loses the locks that run out meanwhile."""

    def __init__(self) -> None:
        self.server = RedisServer("--appendonly", "yes")
        self._port = self.server.port

    def begin(self) -> None:
        self.server.stop()

    def end(self, *, without: list[str]) -> None:
        """Args: without: keys whose time runs out meanwhile."""
        self.server.port = ports.free_port()
        self.server.start()
        with self.server.client() as client:
            client.delete(*without)
        self.server.stop()
        self.server.port = self._port
        self.server.start()


@pytest.fixture
def outage() -> Iterator[Outage]:
    outage = Outage()
    yield outage
    outage.server.remove()


@pytest.mark.requirement("T27")
async def test_jobs_that_run_through_an_outage_run_once(outage: Outage, queue_name: str, worker: StartWorker) -> None:
    runs: list[str] = []
    go = asyncio.Event()

    async with Queue(queue_name, url=outage.server.url) as tasks:

        @tasks.task
        async def waits(name: str) -> str:
            runs.append(name)
            await go.wait()
            return name

        @tasks.task
        async def ends_meanwhile(name: str) -> str:
            runs.append(name)
            await during.wait()
            return name

        during = asyncio.Event()
        options = {"lock_ms": 30_000, "lock_renew_ms": 100, "stalled_interval_ms": 200, "concurrency": 2}
        async with worker(tasks, **options), worker(tasks, **options):
            await waits.enqueue("a")
            await ends_meanwhile.enqueue("b")

            async def both_run() -> bool:
                return sorted(runs) == ["a", "b"]

            await wait_until_async(both_run, "both jobs to run")
            await tasks.close()
            outage.begin()
            during.set()
            base = f"bull:{queue_name}:"
            await asyncio.to_thread(outage.end, without=[f"{base}1:lock", f"{base}2:lock", f"{base}stalled-check"])
            assert await tasks.handle("2").result(30) == "b"
            go.set()
            assert await tasks.handle("1").result(30) == "a"
            assert await (await waits.enqueue("c")).result(30) == "c"
    assert sorted(runs) == ["a", "b", "c"]
    async with open_queue(outage.server.url, queue_name) as stored:
        places = stored.places()
        # By the millisecond of their ends.
        assert (set(places), sorted(places["completed"])) == ({"completed"}, ["1", "2", "3"])
        assert [(stored.hash(job)["ats"], "stc" in stored.hash(job)) for job in "12"] == [("1", False)] * 2


@pytest.mark.requirement("T27")
async def test_a_worker_that_starts_before_redis_waits_for_it(
    outage: Outage, queue_name: str, worker: StartWorker
) -> None:
    outage.begin()
    async with Queue(queue_name, url=outage.server.url) as tasks:

        @tasks.task
        async def step() -> str:
            return "ran"

        async with worker(tasks):
            await asyncio.to_thread(outage.server.start)
            assert await (await step.enqueue()).result(30) == "ran"
