"""Ports for what tests start."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from support import ports

OTHER = """
import sys
from support import ports

ports.PORTS = range(int(sys.argv[1]), int(sys.argv[1]) + 1)
print(ports.free_port())
"""


def ask_as_another_process(port: int) -> str:
    """What a process is told that asks for this port."""
    argv = [sys.executable, "-c", OTHER, str(port)]
    done = subprocess.run(argv, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_port_is_given_out_once_though_nobody_listens_on_it_yet() -> None:
    port = ports.free_port()
    assert port != ports.free_port()
    assert ask_as_another_process(port) == f"RuntimeError: no port of 127.0.0.1 is free between {port} and {port + 1}"
    with socket.create_server(("127.0.0.1", port)):
        pass
