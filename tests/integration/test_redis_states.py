"""States of a Redis that is there and does not serve: a replica, loading, silent, cutting off, or no Redis at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import redis

from support import worker_inside
from support.contents import contents
from support.engine import open_queue
from support.proxy import open_proxy
from support.redis_server import RedisServer
from support.waiting import wait_until, wait_until_async
from toril import Queue, errors
from toril.engine.redis import protocol
from toril.engine.redis.connection import AsyncConnection, BlockingConnection
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.sync_connection import SyncConnection
from toril.engine.worker import Finish
from toril.errors import RedisReason

T = TypeVar("T")


@pytest.fixture
def start_server() -> Iterator[Callable[..., RedisServer]]:
    """Start servers that the test may break."""
    with contextlib.ExitStack() as started:

        def start(*options: str) -> RedisServer:
            server = RedisServer("--repl-diskless-sync-delay", "0", *options)
            started.callback(server.remove)
            return server

        yield start


def make_replica(server: RedisServer, of: RedisServer) -> None:
    server.client().replicaof("127.0.0.1", of.port)

    def is_linked() -> bool:
        return bool(server.client().info("replication").get("master_link_status") == "up")

    wait_until(is_linked, "the replica's first copy")


def content(server: RedisServer) -> dict[Any, Any]:
    with redis.Redis(port=server.port) as client:
        return contents(client)


# ---- a replica


@pytest.mark.requirement("T30")
async def test_a_replica_is_unreachable_for_writes(start_server: Callable[..., RedisServer]) -> None:
    primary, replica = start_server(), start_server()
    async with open_queue(primary.url, "q") as queue:
        await queue.add()
        make_replica(replica, primary)
        before = content(replica)
        async with open_queue(replica.url, "q") as on_replica:
            for write in (on_replica.add(), on_replica.take(), on_replica.producer.pause()):
                with pytest.raises(errors.RedisUnavailableError) as refused:
                    await write
                assert refused.value.reason is RedisReason.NOT_MASTER
            assert on_replica.places() == {"wait": ["1"]}
    assert content(replica) == before
    sync = SyncConnection(RedisSettings.from_url(replica.url))
    with pytest.raises(errors.RedisUnavailableError) as refused:
        sync.command("SET", "k", "v")
    sync.close()
    assert refused.value.reason is RedisReason.NOT_MASTER


@pytest.mark.requirement("T30")
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_worker_follows_the_name_to_the_new_primary(
    start_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture, concurrency: int
) -> None:
    """The old primary lives on as a replica, and keeps the connections that it has."""
    first, second = start_server(), start_server()
    make_replica(second, first)
    async with open_proxy(first.port) as proxy, Queue("q", url=f"redis://127.0.0.1:{proxy.port}") as tasks:

        @tasks.task
        async def step(number: int) -> int:
            return number

        async with worker_inside.running(tasks, concurrency=concurrency):
            assert await (await step.enqueue(1)).result(30) == 1
            wait_until(
                lambda: (
                    first.client().info("replication")["slave0"]["offset"]
                    == first.client().info("replication")["master_repl_offset"]
                ),
                "the replica to have everything",
            )
            proxy.move_to(second.port)
            second.client().replicaof("NO", "ONE")
            make_replica(first, second)
            with contextlib.suppress(errors.RedisUnavailableError):
                await step.options(job_id="two").enqueue(2)
            handle = await step.options(job_id="two").enqueue(2)
            assert await handle.result(30) == 2
            assert await (await step.enqueue(3)).result(30) == 3
        async with open_queue(second.url, "q") as queue:
            assert sorted(queue.places()["completed"]) == ["1", "3", "two"]
            assert {queue.hash(job)["ats"] for job in ("1", "3", "two")} == {"1"}
    told = [record.message for record in caplog.records if "Redis fails" in record.message]
    assert told
    words = ("READONLY", "UNBLOCKED", "closed", "LOADING")
    assert all(any(word in line for word in words) for line in told), told


# ---- loading


@pytest.fixture
def loading(start_server: Callable[..., RedisServer]) -> RedisServer:
    """A server that reads its data for long, in which there is the queue `q` with one waiting job."""
    server = start_server("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    with server.client() as client:
        for number in range(3000):
            client.set(f"filler:{number}", "x" * 200)
        client.hset("bull:q:1", mapping={"name": "step", "data": "{}", "opts": "{}", "timestamp": "1"})
        client.lpush("bull:q:wait", "1")
        client.save()
    server.stop(kill=True)
    server.start(is_ready=False)
    return server


async def reason_of(call: Callable[[], object]) -> RedisReason | None:
    try:
        found = call()
        if asyncio.iscoroutine(found):
            await found
    except errors.RedisUnavailableError as problem:
        return problem.reason
    return None


@pytest.mark.requirement("T31")
async def test_a_loading_server_is_unknown_and_not_empty(loading: RedisServer) -> None:
    async with open_queue(loading.url, "q") as queue:

        async def is_loading() -> bool:
            return await reason_of(queue.inspector.signals) is RedisReason.LOADING

        await wait_until_async(is_loading, "the server to answer, while it loads")
        for call in (queue.inspector.counts, queue.take, queue.add, queue.inspector.is_paused):
            assert await reason_of(call) is RedisReason.LOADING
        sync = SyncConnection(queue.settings)
        assert await reason_of(lambda: sync.command("LLEN", "bull:q:wait")) is RedisReason.LOADING
        sync.close()
        async with Queue("q", url=loading.url) as tasks:

            @tasks.task
            async def step() -> str:
                return "ran"

            async with worker_inside.running(tasks):
                loading.client().config_set("key-load-delay", 0)
                await asyncio.to_thread(loading.wait_ready)
                assert await tasks.handle("1").result(30) == "ran"
        assert queue.places() == {"completed": ["1"]}


# ---- silent


@pytest.mark.requirement("T34")
@pytest.mark.parametrize("command", ["GET", "SET"])
async def test_what_is_still_on_its_way_is_no_silence(redis_server: RedisServer, command: str) -> None:
    """A large value over a slow network takes longer than an answer may."""
    value = b"x" * (4_000_000 if command == "GET" else 24_000_000)
    async with open_proxy(redis_server.port) as proxy:
        settings = RedisSettings.from_url(f"redis://127.0.0.1:{proxy.port}/0")
        connection = AsyncConnection(settings, timeout_seconds=2)
        try:
            await connection.command("SET", "large", value if command == "GET" else "")
            proxy.slow_down(14_000 if command == "GET" else 84_000)
            began = time.monotonic()
            assert await connection.command(command, "large", *([value] if command == "SET" else [])) in (value, b"OK")
            assert time.monotonic() - began > 2.5, "it was not slow"
            assert connection.connects == 1
        finally:
            await connection.close()
            with redis_server.client() as client:
                client.delete("large")


@pytest.mark.requirement("T34")
async def test_silence_is_noticed_within_the_limit(start_server: Callable[..., RedisServer]) -> None:
    server = start_server()
    connection = AsyncConnection(RedisSettings.from_url(server.url), timeout_seconds=1)
    blocking = BlockingConnection(RedisSettings.from_url(server.url), connect_timeout_seconds=1)
    sync = SyncConnection(RedisSettings.from_url(server.url), timeout_seconds=1)
    assert await connection.command("PING") == b"PONG"
    assert sync.command("PING") == b"PONG"
    assert await blocking.wait_marker("m", 0.01) is None
    server.signal(signal.SIGSTOP)
    try:
        calls: list[tuple[type[errors.RedisError], Callable[[], Awaitable[Any]]]] = [
            (errors.UnknownOutcomeError, lambda: connection.command("INCR", "n")),
            # That connection is given up; a new one is taken by the kernel, and nobody greets.
            (errors.RedisUnavailableError, lambda: connection.command("INCR", "n")),
            (errors.UnknownOutcomeError, lambda: asyncio.to_thread(sync.command, "INCR", "n")),
        ]
        for kind, call in calls:
            began = time.monotonic()
            with pytest.raises(kind) as noticed:
                await call()
            assert noticed.value.reason is RedisReason.TIMEOUT
            assert 0.9 < time.monotonic() - began < 20
        began = time.monotonic()
        with pytest.raises(errors.RedisUnavailableError) as unheard:
            await blocking.wait_marker("m", 0.01)
        assert unheard.value.reason is RedisReason.TIMEOUT
        assert time.monotonic() - began < 25
    finally:
        server.signal(signal.SIGCONT)
    await asyncio.to_thread(server.wait_ready)
    assert await connection.command("PING") == b"PONG"
    assert sync.command("PING") == b"PONG"
    assert await blocking.wait_marker("m", 0.01) is None
    # What was sent and not answered has happened all the same, what was not sent has not.
    assert await connection.command("GET", "n") == b"2"
    await connection.close()
    await blocking.close()
    sync.close()


@pytest.mark.requirement("T34")
async def test_a_worker_goes_on_when_a_silent_server_speaks_again(
    start_server: Callable[..., RedisServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server()
    runs: list[int] = []
    async with Queue("q", url=server.url) as tasks, open_queue(server.url, "q") as queue:

        @tasks.task
        async def step(number: int) -> int:
            runs.append(number)
            return number

        async def is_noticed() -> bool:
            return any("no answer" in record.message for record in caplog.records)

        async with worker_inside.running(tasks, lock_renew_ms=200, stalled_interval_ms=500):
            assert await (await step.enqueue(1)).result(30) == 1
            server.signal(signal.SIGSTOP)
            try:
                await wait_until_async(is_noticed, "the worker to notice", timeout_seconds=60)
            finally:
                server.signal(signal.SIGCONT)
            assert await (await step.enqueue(2)).result(30) == 2
        assert runs == [1, 2]
        assert queue.places() == {"completed": ["1", "2"]}


# ---- cutting off


async def surely(call: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Repeat a call until its reply is not cut off."""
    for _ in range(20):
        with contextlib.suppress(errors.RedisUnavailableError, errors.UnknownOutcomeError):
            return await call(*args)
    raise AssertionError("cut off twenty times in a row")


@pytest.mark.requirement("T44")
async def test_cut_connections_are_opened_again_and_none_is_left_over(start_server: Callable[..., RedisServer]) -> None:
    server = start_server()
    runs: list[int] = []
    raw: Any = server.client()

    def connections() -> list[str]:
        """By name and what they do; without the reader of results, which stays for a while."""
        clients = [client for client in raw.client_list(_type="normal") if not client["name"].endswith(":qe")]
        return sorted("waits" if client["cmd"] == "bzpopmin" else client["name"] for client in clients)

    async with Queue("q", url=server.url) as tasks, open_queue(server.url, "q") as queue:

        @tasks.task
        async def step(number: int) -> int:
            runs.append(number)
            return number

        async with worker_inside.running(tasks, concurrency=3, idle_poll_seconds=60):
            assert await (await step.options(job_id="first").enqueue(0)).result(30) == 0
            await queue.inspector.counts()

            async def is_waiting() -> bool:
                return "waits" in connections()

            await wait_until_async(is_waiting, "the worker to wait for more")
            before = connections()
            for number in range(1, 51):
                await surely(step.options(job_id=f"job-{number}").enqueue, number)
                raw.client_kill_filter(_type="normal", skipme=True)
                if number % 10 == 0:

                    async def all_done(count: int = number + 1) -> bool:
                        return bool(raw.zcard(queue.keys.completed) == count)

                    await wait_until_async(all_done, f"{number + 1} jobs to be done")
            last = await surely(step.options(job_id="last").enqueue, 99)
            assert await last.result(30) == 99
            await surely(queue.inspector.counts)

            async def is_as_before() -> bool:
                return connections() == before

            await wait_until_async(is_as_before, f"the same connections as before: {before}")
        assert sorted(runs) == [*range(51), 99]
        assert set(queue.places()) == {"completed"}


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_who_waits_for_a_result_waits_on_while_redis_is_away(redis_server: RedisServer, kind: str) -> None:
    """To look again costs nothing. Only a Redis that was never reached is told at once."""
    async with (
        open_proxy(redis_server.port) as proxy,
        Queue("waits", url=f"redis://127.0.0.1:{proxy.port}/0") as tasks,
        open_queue(redis_server.url, "waits") as queue,
    ):
        handle = await tasks.add("send", {})
        assert await asyncio.to_thread(handle.sync.state) == "waiting"
        proxy.lose_reply(lambda request: b"EVALSHA" in request)
        proxy.move_to(1)
        waits = handle.result(60) if kind == "async" else asyncio.to_thread(handle.sync.result, 60)
        waiting = asyncio.create_task(waits)

        async def is_refused() -> bool:
            return waiting.done() or proxy.refusals > 2

        await wait_until_async(is_refused, "the caller to look while no Redis is there")
        assert proxy.cuts == 1
        job = await queue.take_one()
        await queue.finish(Finish.completed(job, '"late"'))
        proxy.move_to(redis_server.port)
        assert await waiting == "late"
    tasks.sync.close()


def test_a_synchronous_call_after_the_server_hung_up_is_sent(redis_server: RedisServer) -> None:
    """As after a restart, or with the server's `timeout`: what was not sent may be sent over a new connection."""
    connection = SyncConnection(RedisSettings.from_url(redis_server.url))
    client: Any = redis_server.client()
    with client:
        mine = connection.command("CLIENT", "ID")
        assert client.client_kill_filter(_id=mine) == 1
        wait_until(lambda: all(int(each["id"]) != mine for each in client.client_list()), "the connection to be gone")
    assert connection.command("CLIENT", "ID") != mine
    connection.close()


async def test_a_fault_of_ours_while_a_reply_is_taken_in_is_not_told_as_the_servers(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def done(self) -> bool:
            return False

        def set_result(self, reply: Any, /) -> None:
            raise RuntimeError("a mistake")

        def set_exception(self, problem: Exception, /) -> None:
            raise AssertionError(problem)

    opened = await protocol.open_connection(
        RedisSettings.from_url(redis_server.url), client_name=None, timeout_seconds=30
    )
    opened.send_for(Broken(), protocol.pack(("PING",)))
    after = opened.send(protocol.pack(("PING",)))
    with pytest.raises(errors.UnknownOutcomeError, match="Toril failed") as told:
        await after
    assert told.value.reason is RedisReason.CONNECTION_REFUSED
    assert "a fault of Toril" in caplog.text
    assert "a mistake" in caplog.text


def test_a_forked_process_has_a_connection_of_its_own(redis_url: str) -> None:
    """As with servers that load the application and then fork: two processes on one would get each other's replies."""
    connection = SyncConnection(RedisSettings.from_url(redis_url))
    mine = connection.command("CLIENT", "ID")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, str(connection.command("CLIENT", "ID")).encode())
            connection.close()
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert int(os.read(reader, 100)) != mine
    assert connection.command("CLIENT", "ID") == mine
    connection.close()
    os.close(reader)
