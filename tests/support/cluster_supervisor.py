"""The first process of a test cluster: starts its components, and ends them all when its caller is gone.

Run by path with nothing but the standard library (`python -I cluster_supervisor.py FOLDER`), so that it starts at
once and also serves as process 1 of a namespace of its own. It reads one JSON request a line from stdin and answers
each with one line on stdout:

    {"do": "start", "name": "etcd", "argv": [...], "env": {...}, "log": "/…/etcd.log"}  → {"pid": 12}
    {"do": "status", "name": "etcd"}                                  → {"running": true, "code": null}
    {"do": "signal", "name": "etcd", "signal": 9}                     → {"running": true, "code": null}
    {"do": "run", "argv": [...]}                                      → {"code": 0, "output": "…"}

stdin ends when the caller ends, however it ends (the kernel closes its pipe, also after SIGKILL). Then every process
is killed, FOLDER removed (kept with KEEP=1 in the environment) and the supervisor ends too. Nothing is asked to end
gently: all state of a test cluster is thrown away.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")


class Supervisor:
    """Children by name, with the exit code of each that has ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pids: dict[str, int] = {}
        self.codes: dict[int, int] = {}

    def serve(self) -> None:
        """Answer requests until stdin ends."""
        wake_up, write_end = os.pipe()
        for end in (wake_up, write_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(write_end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # A Ctrl-C in the terminal is for the caller, who ends us in order by closing stdin.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake_up, selectors.EVENT_READ)
        pending = b""
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if wake_up in ready:
                os.read(wake_up, 4096)
                self.reap()
            if 0 in ready:
                received = os.read(0, 65536)
                if not received:
                    return
                *lines, pending = (pending + received).split(b"\n")
                for line in lines:
                    self.answer(json.loads(line))

    def answer(self, request: dict[str, Any]) -> None:
        try:
            reply = getattr(self, f"do_{request.pop('do')}")(**request)
        except OSError as error:
            reply = {"error": str(error)}
        os.write(1, json.dumps(reply).encode() + b"\n")

    def do_start(self, name: str, argv: list[str], env: dict[str, str], log: str) -> dict[str, Any]:
        with Path(log).open("ab") as output:
            process = subprocess.Popen(
                argv, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=self.folder, preexec_fn=die_with_parent,
            )  # fmt: skip
        process.returncode = 0  # `reap` waits for it; this object must not
        self.pids[name] = process.pid
        self.codes.pop(process.pid, None)
        return {"pid": process.pid}

    def do_run(self, argv: list[str]) -> dict[str, Any]:
        """A short command to its end; nothing else is served meanwhile."""
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return {"code": done.returncode, "output": done.stdout.decode(errors="replace")}

    def do_status(self, name: str) -> dict[str, Any]:
        self.reap()
        code = self.codes.get(self.pids[name])
        return {"running": code is None, "code": code}

    def do_signal(self, name: str, **given: int) -> dict[str, Any]:
        self.reap()
        if self.pids[name] not in self.codes:
            os.kill(self.pids[name], given["signal"])
        return self.do_status(name)

    def reap(self) -> None:
        """Take note of ended children, also of orphans that process 1 of a namespace inherits."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.codes[pid] = os.waitstatus_to_exitcode(status)

    def kill_all(self) -> None:
        """End every process of the namespace, or without one every component and what is in our process group."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.reap()
        if os.getpid() == 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        else:
            for pid in self.pids.values():
                if pid not in self.codes:
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.wait()


def die_with_parent() -> None:
    """Let the kernel end this child when the supervisor is gone (Linux only)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(1, signal.SIGKILL)


def unmount_below(folder: Path) -> None:
    """Detach what is mounted below `folder`, deepest first."""
    if not Path("/proc/self/mountinfo").exists():
        return
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    libc = ctypes.CDLL(None)
    for target in reversed(targets):
        if target.startswith(f"{folder}/"):
            libc.umount2(os.fsencode(target.encode().decode("unicode_escape")), 2)


def remove_cgroups(name: str) -> None:
    """Remove the cgroup `name` and all below it in every hierarchy; processes that just ended keep one busy briefly."""
    deadline = time.monotonic() + 10
    for top in [*CGROUPS.glob(f"*/{name}"), CGROUPS / name]:
        while top.is_dir():
            # Files may vanish during the walk.
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)


def remove_state(folder: Path) -> None:
    """Remove what a cluster left: its cgroups (named as its folder), mounts and files. Safe to repeat."""
    remove_cgroups(folder.name)
    if os.environ.get("KEEP") != "1":
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    folder = Path(sys.argv[1])
    supervisor = Supervisor(folder)
    try:
        supervisor.serve()
    finally:
        supervisor.kill_all()
        remove_state(folder)


if __name__ == "__main__":
    main()
