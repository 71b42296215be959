"""A TCP proxy in front of a real Redis that loses replies, or holds them up: the server acts, and the client does not
hear of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Proxy:
    """Passes bytes on, until `cut` is called."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._server: asyncio.Server | None = None
        self._cut_when: Callable[[bytes], bool] | None = None
        self._hold_when: Callable[[bytes], bool] | None = None
        self._delay_when: Callable[[bytes], bool] | None = None
        self._released = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn_bytes = 0
        self.cuts = 0
        """How many replies were lost."""
        self.refusals = 0
        """How many connections were closed because no server was there."""

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def lose_reply(self, matches: Callable[[bytes], bool]) -> None:
        """Pass the next request that matches on, wait for the server's reply, drop it and close the connection."""
        self._cut_when = matches

    def hold_reply(self, matches: Callable[[bytes], bool]) -> None:
        """Pass the next request that matches on, and keep its connection's replies back until `release`."""
        self._hold_when = matches

    def delay_request(self, matches: Callable[[bytes], bool]) -> None:
        """Close the connection at the next request that matches, which reaches the server all the same at `release`."""
        self._delay_when = matches

    def release(self) -> None:
        """Let go what was held up."""
        self._released.set()

    @property
    def is_holding(self) -> bool:
        """Whether a request has matched what is to be held up; its reply need not have come yet."""
        return self._hold_when is None and not self._released.is_set()

    def slow_down(self, turn_bytes: int) -> None:
        """Pass on at most so many bytes each way in a hundredth of a second."""
        self._turn_bytes = turn_bytes

    def move_to(self, server_port: int) -> None:
        """Lead new connections to another server, as a Service does; those that stand stay."""
        self._server_port = server_port

    @property
    def is_armed(self) -> bool:
        return self._cut_when is not None or self._delay_when is not None

    async def start(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        # What is slowed down shall wait at the sender's.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        self._server = await asyncio.start_server(self._serve, sock=listening)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            try:
                server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
            except ConnectionRefusedError:
                self.refusals += 1
                return
            self._writers.add(server_writer)
            is_cut, is_held = asyncio.Event(), asyncio.Event()
            await asyncio.wait(
                [
                    asyncio.create_task(self._requests(reader, writer, server_writer, is_cut, is_held)),
                    asyncio.create_task(self._replies(server_reader, writer, is_cut, is_held)),
                ]
            )
            server_writer.transport.abort()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        server: asyncio.StreamWriter,
        is_cut: asyncio.Event,
        is_held: asyncio.Event,
    ) -> None:
        while data := await _read(reader):
            if self._cut_when is not None and self._cut_when(data):
                self._cut_when = None
                is_cut.set()
            if self._hold_when is not None and self._hold_when(data):
                self._hold_when = None
                is_held.set()
            if self._delay_when is not None and self._delay_when(data):
                self._delay_when = None
                client.transport.abort()
                await self._released.wait()
            await self._pass_on(data, server)
        server.transport.abort()

    async def _replies(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter, is_cut: asyncio.Event, is_held: asyncio.Event
    ) -> None:
        while data := await _read(reader):
            if is_cut.is_set():
                self.cuts += 1
                break
            if is_held.is_set():
                await self._released.wait()
            await self._pass_on(data, client)
        client.transport.abort()

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        size = self._turn_bytes or len(data)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            if self._turn_bytes:
                await asyncio.sleep(0.01)


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 20)
    except OSError:
        return b""


@asynccontextmanager
async def open_proxy(server_port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(server_port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()
