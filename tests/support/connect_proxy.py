"""An HTTP proxy as companies have them: clients CONNECT through it, to one server whatever name they ask for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


class ConnectProxy:
    """Counts what it is asked for."""

    def __init__(self, server: tuple[str, int], *, is_open: bool = True) -> None:
        """Args: is_open: else each CONNECT is refused."""
        self.targets: list[str] = []
        """The `host:port` of each CONNECT."""
        self.port = 0
        self._server = server
        self._is_open = is_open

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b" ", 2)
            assert method == b"CONNECT"
            self.targets.append(target.decode())
            if not self._is_open:
                writer.write(REFUSED)
                await writer.drain()
                return
            server_reader, server_writer = await asyncio.open_connection(*self._server)
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.gather(_pass_on(reader, server_writer), _pass_on(server_reader, writer))
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


@contextmanager
def connect_proxy(server: tuple[str, int], *, is_open: bool = True) -> Iterator[ConnectProxy]:
    """A proxy on loopback, in a thread of its own."""
    proxy = ConnectProxy(server, is_open=is_open)
    started = threading.Event()
    loop = asyncio.new_event_loop()
    task: asyncio.Task[None] | None = None

    async def run() -> None:
        listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.port = listening.sockets[0].getsockname()[1]
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            listening.close()

    async def run_until_ended() -> None:
        nonlocal task
        task = asyncio.create_task(run())
        await asyncio.gather(task, return_exceptions=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run_until_ended(),), daemon=True)
    thread.start()
    assert started.wait(30), "the proxy has started"
    try:
        yield proxy
    finally:
        assert task is not None
        loop.call_soon_threadsafe(task.cancel)
        thread.join(30)
        loop.close()
