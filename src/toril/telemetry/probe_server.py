"""A very small HTTP/1.1 server for `/livez`, `/readyz` and `/metrics`: GET and HEAD, one request a connection.

A web framework would more than double the CPU time of a worker's start; docs/decisions/0012 has the figures. Not for
routes that take input: bodies are never read.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

Response = tuple[int, str, str | bytes]
"""Status code, content type, body."""
Route = Callable[[], Response | Awaitable[Response]]

PLAIN = "text/plain; charset=utf-8"
REQUEST_TIMEOUT_SECONDS = 5.0
"""A client that has not sent its whole request by then is cut off."""
MAX_HEAD_BYTES = 16 * 1024
MAX_CONNECTIONS = 256
"""When there are more, the oldest connection without a request is closed, else the oldest. A probe sends its request as
soon as it is connected, so it is answered however many clients stay silent. The kernel hands over fewer new connections
in one turn of the loop, so that a probe's is not closed in the turn in which it came."""

logger = logging.getLogger(__name__)


class HttpProbe:
    """Serves fixed paths; a query string is ignored. Everything runs on the event loop that called `start`."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        """Args: routes: path → function giving (status, content type, body), or a coroutine function giving that."""
        self._routes = dict(routes)
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, bool] = {}
        """Connection → whether its request has come; oldest first."""

    @property
    def port(self) -> int:
        """The port that is listened on; useful after `start(0)`."""
        assert self._server is not None, "not started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self, port: int, host: str | None = None) -> None:
        """Listen.

        Args:
            port: 0 = any free one (give a host then, since each address family would get its own).
            host: None = every address of the machine, IPv4 and IPv6.

        Raises:
            OSError: the port is taken, or may not be used.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=MAX_HEAD_BYTES)
        except OSError as problem:
            if host is not None or problem.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            # IPv6 is switched off on this machine.
            self._server = await asyncio.start_server(self._serve, "0.0.0.0", port, limit=MAX_HEAD_BYTES)  # noqa: S104

    async def close(self) -> None:
        """Stop listening and cut open connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for writer in tuple(self._connections):
            writer.transport.abort()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            self._cut_oldest()
        self._connections[writer] = False
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                method, status, content_type, body = await self._answer(reader, writer)
                writer.write(_head(status, content_type, len(body)))
                if method != "HEAD":
                    writer.write(body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            # The client went away or was too slow: there is no one to answer.
            writer.transport.abort()
        finally:
            self._connections.pop(writer, None)
            writer.close()

    def _cut_oldest(self) -> None:
        waiting = (writer for writer, has_asked in self._connections.items() if not has_asked)
        writer = next(waiting, None) or next(iter(self._connections))
        del self._connections[writer]
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int, str, bytes]:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return "GET", 431, PLAIN, b"the request is too large\n"
        if writer in self._connections:
            self._connections[writer] = True
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return "GET", 400, PLAIN, b"not an HTTP/1.1 request\n"
        method, path = parts[0], parts[1].partition("?")[0]
        route = self._routes.get(path)
        if route is None:
            return method, 404, PLAIN, f"no such path; there are {', '.join(sorted(self._routes))}\n".encode()
        if method not in ("GET", "HEAD"):
            return method, 405, PLAIN, b"only GET and HEAD\n"
        status, content_type, body = await _call(route)
        return method, status, content_type, body.encode() if isinstance(body, str) else body


async def _call(route: Route) -> Response:
    try:
        answer = route()
        return await answer if inspect.isawaitable(answer) else answer
    except Exception:
        logger.exception("an HTTP probe failed")
        return 500, PLAIN, "failed; see the log\n"


def _head(status: int, content_type: str, length: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = (
        f"HTTP/1.1 {status} {phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
