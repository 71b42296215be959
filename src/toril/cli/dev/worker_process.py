"""One worker as a process of this machine: its output line by line, its end, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping

from toril.cli import output
from toril.cli.dev import child

LINES_KEPT = 20
MAX_LINE_BYTES = 64 * 1024
"""A longer line is left out."""
DRY_SECONDS = 1.0
"""How long the output of an ended worker is still read. A process that the worker left behind may hold it open."""


class WorkerProcess:
    """One running worker. Made by `start`."""

    def __init__(self, name: str, number: int, on_line: Callable[[str, str], None]) -> None:
        self.name = name
        self.number = number
        self.is_ready = False
        self.is_draining = False
        self._last_lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._on_line = on_line
        self._output = _Output(self._pass_on)
        self._transport: asyncio.SubprocessTransport | None = None

    async def start(self, environment: Mapping[str, str]) -> None:
        """Start the process; everything that it prints goes to `on_line`, with its name."""
        self._transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self._output,
            # -P: modules are found by PYTHONPATH, not first in the current folder.
            *child.guarded(sys.executable, "-P", "-m", "toril.worker"),
            env={**environment, "TORIL_POD_NAME": self.name},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Ctrl-C in the terminal reaches `toril dev` only, which then drains the workers.
            start_new_session=True,
        )

    @property
    def last_words(self) -> str:
        """The last line that is not empty."""
        return next((line for line in reversed(self._last_lines) if line.strip()), "it said nothing")

    def send(self, number: signal.Signals) -> None:
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.send_signal(number)

    def kill(self) -> None:
        """Kill the worker and its process group, which holds the processes that it started."""
        if self._transport is not None and (pid := self._transport.get_pid()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end and return its exit code; kill the rest of its process group."""
        transport = self._transport
        assert transport is not None
        await self._output.exited.wait()
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRY_SECONDS):
                await self._output.closed.wait()
        transport.close()
        code = transport.get_returncode()
        assert code is not None
        return code

    def _pass_on(self, line: bytes) -> None:
        text = output.printable(line.decode(errors="replace").rstrip())
        self._last_lines.append(text)
        self._on_line(self.name, text)


class _Output(asyncio.SubprocessProtocol):
    """Cuts the output of a process into lines. Reports the exit at once, also while another process holds the output
    open."""

    def __init__(self, on_line: Callable[[bytes], None]) -> None:
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()
        """All of its output has been read."""
        self._on_line = on_line
        self._rest = b""
        self._is_too_long = False

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._is_too_long and len(line) <= MAX_LINE_BYTES:
                self._on_line(line)
            self._is_too_long = False
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest, self._is_too_long = b"", True

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if self._rest and not self._is_too_long:
            self._on_line(self._rest)
        self._rest = b""
        self.closed.set()

    def process_exited(self) -> None:
        self.exited.set()
