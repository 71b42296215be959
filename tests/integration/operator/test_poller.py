"""What the operator makes of servers that do not serve: unknown, with a reason, and bounded in memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.engine import open_queue
from support.redis_server import RedisServer
from support.waiting import wait_until_async
from toril.engine.redis.settings import RedisSettings
from toril.errors import RedisReason
from toril.jobs.signals import QueueSignals
from toril.scaling.policy import Unknown
from toril_operator.object_cache import Key
from toril_operator.polling import poller as pollers
from toril_operator.polling.poller import Poller
from toril_operator.polling.targets import Snapshot, Target

KEY = Key("team", "email")
MIB = 1024 * 1024
CHUNK = 64 * 1024
CANARY = "canary-77ab"


@asynccontextmanager
async def polling(url: str) -> AsyncIterator[list[Snapshot]]:
    """Read the queue `email` there; yields what is published, as it comes."""
    published: list[Snapshot] = []
    settings = RedisSettings.from_url(url)
    poller = Poller(settings, lambda _, snapshot: published.append(snapshot), allow_special=True)
    poller.set_target(KEY, Target(settings, "email", "bull", 1000))
    task = asyncio.create_task(poller.run())
    try:
        yield published
        assert not task.done(), "the poller has ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def published(snapshots: list[Snapshot], probe: Callable[[Snapshot], bool], what: str) -> Snapshot:
    async def is_there() -> bool:
        return any(map(probe, snapshots))

    await wait_until_async(is_there, what)
    return next(filter(probe, snapshots))


@pytest.mark.requirement("T31")
async def test_a_loading_server_is_unknown_until_it_has_loaded() -> None:
    server = RedisServer("--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024")
    try:
        async with open_queue(server.url, "email") as queue:
            await queue.add()
        with server.client() as client:
            for number in range(3000):
                client.set(f"filler:{number}", "x" * 200)
            client.save()
        server.stop(kill=True)
        server.start(is_ready=False)
        async with polling(server.url) as snapshots:
            first = await published(snapshots, lambda found: found.reason is RedisReason.LOADING, "that it loads")
            assert isinstance(first.signal, Unknown)
            assert not [found for found in snapshots if isinstance(found.signal, QueueSignals)]
            server.client().config_set("key-load-delay", 0)
            await asyncio.to_thread(server.wait_ready)
            known = await published(snapshots, lambda found: found.reason is None, "that it has loaded")
            assert isinstance(known.signal, QueueSignals)
            assert known.signal.waiting == 1
    finally:
        server.remove()


def endless(announced: bytes, body: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([announced], itertools.repeat(body))


HOSTILE: dict[str, Callable[[], Iterator[bytes]]] = {
    "a huge text": endless(b"$2000000000\r\n", b"x" * CHUNK),
    "an endless line": endless(b"+", b"x" * CHUNK),
    "nested arrays": lambda: iter([b"*1\r\n" * 200_000]),
    "wide nested arrays": endless(b"*1000\r\n" * 8, b"*10000\r\n" * 4000),
    "wide nested arrays, few": lambda: iter([b"*10000\r\n" * 900]),
    "an array without end": endless(b"*2147483647\r\n", b":1\r\n" * 16_000),
    "an array announced in two parts": endless(b"*21474", b"83647\r\n:1\r\n"),
    "an array behind a text": endless(b"*2\r\n$9\r\n*1\r\n\r\n*1\r\r\n", b"*2147483647\r\n"),
    "more than was asked for": endless(b"+PONG\r\n", b"+PONG\r\n" * 8000),
    "pushes": endless(b"", b">2\r\n+message\r\n+x\r\n" * 4000),
    "a count below nothing": endless(b"*-7\r\n", b":1\r\n" * 16_000),
    "a count beyond counting": endless(b"*9223372036854775808\r\n", b":1\r\n" * 16_000),
    "another protocol": lambda: iter([b"HTTP/1.1 400 Bad Request\r\n\r\n" + CANARY.encode()]),
    "an error with all kinds of text": lambda: iter([b"-ERR <b>\x1b[31m" + CANARY.encode() + b"\r\n"] * 9),
    "texts where numbers should be": lambda: iter([b"$1\r\nx\r\n", *[b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n"] * 3]),
}


@contextlib.contextmanager
def hostile_server(
    answer: Callable[[], Iterator[bytes]], *, pause_seconds: float = 0
) -> Iterator[tuple[str, list[int]]]:
    """Says the same to whoever connects; yields its address and how many bytes each connection took."""
    taken: list[int] = []
    ending = threading.Event()

    def serve(connection: socket.socket) -> None:
        taken.append(0)
        connection.recv(1)
        for part in answer():
            connection.sendall(part)
            taken[-1] += len(part)
            if ending.wait(pause_seconds):
                return
        while connection.recv(CHUNK):
            pass

    def serve_all(listener: socket.socket) -> None:
        # One after the other: the poller leaves a connection before it makes the next.
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            with connection, contextlib.suppress(OSError):
                serve(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_all, args=(listener,), daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}", taken
        ending.set()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(15)
    assert not thread.is_alive()


def memory(name: str) -> int:
    """Of this process, bytes: VmRSS, or VmHWM = the most since `forget_peak`."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as problem:
        pytest.skip(f"not run: the most memory used cannot be read here ({problem})")


async def two_readings(snapshots: list[Snapshot]) -> None:
    async def are_there() -> bool:
        return len(snapshots) >= 2

    await wait_until_async(are_there, "two readings to fail")


@pytest.mark.requirement("T111")
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_server_is_unknown_and_fills_no_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine such an answer may take longer than a call may.
    monkeypatch.setattr(pollers, "CALL_SECONDS", 20.0)
    forget_peak()
    before = memory("VmRSS")
    with hostile_server(HOSTILE[name]) as (url, taken):
        async with polling(url) as snapshots:
            await two_readings(snapshots)
        assert {found.reason for found in snapshots} == {RedisReason.PROTOCOL_ERROR}
        assert all(isinstance(found.signal, Unknown) for found in snapshots)
        assert CANARY not in str(snapshots)
    assert memory("VmHWM") - before < 20 * MIB
    # What a connection takes beyond the limit is in the sockets' buffers.
    assert max(taken) < pollers.MAX_REPLY_BYTES + 16 * MIB


@pytest.mark.requirement("T111")
async def test_a_server_that_drips_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pollers, "CALL_SECONDS", 0.3)
    with hostile_server(endless(b"+", b"x"), pause_seconds=0.05) as (url, _):
        async with polling(url) as snapshots:
            found = await published(snapshots, lambda _: True, "a reading to be given up")
        assert found.reason is RedisReason.TIMEOUT


@pytest.mark.requirement("T34")
async def test_silence_is_unknown_within_the_time_of_a_call() -> None:
    server = RedisServer()
    try:
        async with polling(server.url) as snapshots:
            await published(snapshots, lambda found: found.reason is None, "a reading")
            server.signal(signal.SIGSTOP)
            began = time.monotonic()
            found = await published(snapshots, lambda found: found.reason is not None, "the silence to be noticed")
            assert found.reason is RedisReason.TIMEOUT
            # The pause until the next reading, and the call.
            assert time.monotonic() - began < 1.1 + pollers.CALL_SECONDS + 15
            server.signal(signal.SIGCONT)
            snapshots.clear()
            await published(snapshots, lambda found: found.reason is None, "a reading after the silence")
    finally:
        server.signal(signal.SIGCONT)
        server.remove()
