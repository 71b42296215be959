"""Runs `toril` as a program, and `toril dev` in the background with everything that it starts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from support.redis_server import die_with_parent
from support.waiting import wait_until

TORIL = (sys.executable, "-m", "toril.cli.main")
MARK = "TEST_MARK"


def toril(*arguments: str, data: str = "", timeout_seconds: float = 90) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run([*TORIL, *arguments], capture_output=True, text=True, input=data, timeout=timeout_seconds)


class LocalMode:
    """One running `toril dev`. Processes that it started carry a mark in their environment, wherever they have got."""

    def __init__(
        self, folder: Path, *arguments: str, on_terminal: bool = False, environ: Mapping[str, str] | None = None
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._log = folder / f"out-{self.mark}"
        env = {**os.environ, **(environ or {}), MARK: self.mark}
        argv = [*TORIL, "dev", "-f", str(folder), *arguments]
        self.terminal: int | None = None
        if on_terminal:
            self.terminal, inner = os.openpty()
            env |= {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
            self.process = subprocess.Popen(
                argv, env=env, stdin=inner, stdout=inner, stderr=inner, start_new_session=True, preexec_fn=_own_terminal
            )
            os.close(inner)
        else:
            with self._log.open("wb") as out:
                self.process = subprocess.Popen(
                    argv, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=die_with_parent
                )

    @property
    def text(self) -> str:
        """Everything it has printed so far."""
        return self._log.read_text(errors="replace")

    def wait_text(self, pattern: str, timeout_seconds: float = 60) -> re.Match[str]:
        """Wait until something printed matches."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.text, re.MULTILINE)
            assert found or self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.text}"
            return found

        try:
            found = wait_until(look, pattern, timeout_seconds=timeout_seconds)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{self.text}") from None
        assert found is not None
        return found

    @property
    def url(self) -> str:
        """Its server's address; waits for it."""
        return self.wait_text(r"at (redis://127\.0\.0\.1:[0-9]+/0),")[1]

    def read_terminal_until(self, text: str) -> str:
        """Read what it draws until `text` comes."""
        assert self.terminal is not None
        seen = ""
        while text not in seen:
            try:
                part = os.read(self.terminal, 65536).decode(errors="replace")
            except OSError:
                part = ""
            assert part, f"ended before {text!r} came:\n{seen}"
            seen += part
        return seen

    def processes(self, word: str = "") -> list[int]:
        """Pids of everything that carries the mark and has `word` in its command line; zombies have neither."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    is_ours = f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes()
                    command = (entry / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if is_ours and word in command:
                    found.append(int(entry.name))
        return found

    def wait_gone(self, server_url: str | None = None) -> None:
        """Wait until no process of it is left, however it was ended, and no server listens at its address.

        The address is needed, since a server overwrites its environment, which holds the mark, with its title.
        """
        wait_until(lambda: not self.processes(), f"the processes of toril dev to end: {self.processes()}")
        if server_url is not None:
            wait_until(lambda: not _is_open(server_url), f"the server at {server_url} to end")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def wait(self, timeout_seconds: float = 60) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(timeout_seconds)


@contextmanager
def local_mode(
    folder: Path, *arguments: str, on_terminal: bool = False, environ: Mapping[str, str] | None = None
) -> Iterator[LocalMode]:
    """`toril dev -f FOLDER ARGUMENTS…`; what is left at the end of the block is killed."""
    running = LocalMode(folder, *arguments, on_terminal=on_terminal, environ=environ)
    try:
        yield running
    finally:
        for pid in running.processes():
            # One may end because another one has.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.process.wait()
        if running.terminal is not None:
            os.close(running.terminal)


def _is_open(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


def _own_terminal() -> None:
    """Make the terminal on stdin the controlling one, so that Ctrl-C in it is a signal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
