"""The small HTTP server answers probes, and nothing else makes it fall over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from toril.telemetry import probe_server
from toril.telemetry.probe_server import PLAIN, HttpProbe, Response


async def _slow_metrics() -> Response:
    await asyncio.sleep(0)
    return 200, "text/plain; version=0.0.4", b"up 1\n"


def _broken() -> Response:
    raise RuntimeError("boom")


@pytest.fixture
async def probe() -> AsyncIterator[HttpProbe]:
    routes: dict[str, probe_server.Route] = {
        "/livez": lambda: (200, PLAIN, "ok\n"),
        "/readyz": lambda: (503, PLAIN, "Redis was not reached yet\n"),
        "/metrics": _slow_metrics,
        "/broken": _broken,
    }
    server = HttpProbe(routes)
    await server.start(0, "127.0.0.1")
    yield server
    await server.close()


async def ask(probe: HttpProbe, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", probe.port)
    writer.write(request)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: kube-probe/1.35\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("request_bytes", "status", "body"),
    [
        (get("/livez"), b"200 OK", b"ok\n"),
        (get("/livez?verbose=1"), b"200 OK", b"ok\n"),
        (get("/readyz"), b"503 Service Unavailable", b"Redis was not reached yet\n"),
        (get("/metrics"), b"200 OK", b"up 1\n"),
        (get("/livez", "HEAD"), b"200 OK", b""),
        (get("/livez", "POST"), b"405 Method Not Allowed", b"only GET and HEAD\n"),
        (get("/secret"), b"404 Not Found", b"no such path; there are /broken, /livez, /metrics, /readyz\n"),
        (b"rubbish\r\n\r\n", b"400 Bad Request", b"not an HTTP/1.1 request\n"),
        (
            b"GET /livez HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
            b"431 Request Header Fields Too Large",
            b"the request is too large\n",
        ),
    ],
)
async def test_answers(probe: HttpProbe, request_bytes: bytes, status: bytes, body: bytes) -> None:
    answer = await ask(probe, request_bytes)
    head, _, got = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 " + status
    assert got == body
    assert b"Connection: close" in head


async def test_a_failing_route_is_a_500_and_the_server_lives(
    probe: HttpProbe, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(probe, get("/broken"))
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert "boom" in caplog.text
    assert (await ask(probe, get("/livez"))).startswith(b"HTTP/1.1 200 ")


async def test_a_silent_client_is_cut_off(probe: HttpProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_server, "REQUEST_TIMEOUT_SECONDS", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", probe.port)
    writer.write(b"GET /livez HT")
    with pytest.raises(ConnectionError):
        while await reader.read():
            pass
        raise ConnectionError("closed in an orderly way")
    writer.close()


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nX: slow"])
async def test_any_number_of_idle_and_slow_clients_switches_no_probe_off(probe: HttpProbe, said: bytes) -> None:
    opened: list[asyncio.StreamWriter] = []
    readers: list[asyncio.StreamReader] = []
    try:
        for number in range(3 * probe_server.MAX_CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", probe.port)
            writer.write(said)
            opened.append(writer)
            readers.append(reader)
            if number % 100 == 0:
                assert (await ask(probe, get("/livez"))).startswith(b"HTTP/1.1 200 OK")
        assert (await ask(probe, get("/livez"))).startswith(b"HTTP/1.1 200 OK")
        # The oldest had to go: what is held is bounded.
        oldest = readers[: probe_server.MAX_CONNECTIONS]
        ends = await asyncio.gather(*(reader.read() for reader in oldest), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionError) for end in ends)
        assert len(probe._connections) <= probe_server.MAX_CONNECTIONS
    finally:
        for writer in opened:
            writer.transport.abort()


async def test_clients_that_read_nothing_switch_no_probe_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has asked, and its answer does not fit into what the kernel holds."""
    monkeypatch.setattr(probe_server, "MAX_CONNECTIONS", 8)
    large = b"x" * 8_000_000
    server = HttpProbe({"/livez": lambda: (200, PLAIN, "ok\n"), "/metrics": lambda: (200, PLAIN, large)})
    await server.start(0, "127.0.0.1")
    opened = []
    try:
        for _ in range(probe_server.MAX_CONNECTIONS):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            writer.write(get("/metrics"))
            opened.append(writer)
        assert (await ask(server, get("/livez"))).startswith(b"HTTP/1.1 200 OK")
    finally:
        for writer in opened:
            writer.transport.abort()
        await server.close()


async def test_closing_cuts_open_connections() -> None:
    server = HttpProbe({"/livez": lambda: (200, PLAIN, "ok\n")})
    await server.start(0, "127.0.0.1")
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.wait_for(server.close(), 30)
    writer.close()
