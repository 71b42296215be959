"""Ports of 127.0.0.1 for what tests start: each is given out once among all test processes of a user.

A port is chosen some time before its server listens on it. No other test process gets it in between: it stays locked
as long as the process that asked for it lives. It is none of those that the kernel gives to outgoing connections.
"""

from __future__ import annotations

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path

PORTS = range(15_000, 30_000)
"""Below those of outgoing connections."""

_ours: set[int] = set()


def free_port() -> int:
    """A port that no server listens on and no other test process will get."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if port not in _ours and _lock(port):
            _ours.add(port)
            if _can_be_bound(port):
                return port
    raise RuntimeError(f"no port of 127.0.0.1 is free between {PORTS.start} and {PORTS.stop}")


def _lock(port: int) -> bool:
    """Whether no other process has it. Each port is one byte of a common file; the kernel unlocks them as we end."""
    try:
        fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _lock_file() -> int:
    """Open for good: closing it would unlock all."""
    return os.open(Path(tempfile.gettempdir(), f"toril-test-ports-{os.getuid()}"), os.O_RDWR | os.O_CREAT, 0o600)


def _can_be_bound(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
