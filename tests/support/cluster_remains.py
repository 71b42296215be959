"""Look for what a cluster may have left behind: processes, mounts, cgroups, files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from support import cluster_supervisor

PROC = Path("/proc")


def descendants(pid: int) -> dict[int, str]:
    """Every process below `pid` (not itself): its id, and when it started, so that a reused id is recognised."""
    parents = {child: parent for child, (parent, _) in _processes().items()}
    found: dict[int, str] = {}
    for child, (_, started) in _processes().items():
        above = child
        while above in parents and above != pid:
            above = parents[above]
        if above == pid and child != pid:
            found[child] = started
    return found


def remains(folder: Path, processes: dict[int, str]) -> list[str]:
    """What is still there of a cluster with this folder and these processes, a line each; empty when nothing is."""
    alive = _processes()
    left = [
        f"process {pid}: {_command(pid)}" for pid, started in processes.items() if alive.get(pid, (0, ""))[1] == started
    ]
    left += [f"process {pid} in its folder: {_command(pid)}" for pid in alive if _is_working_in(pid, folder)]
    left += [f"mount: {line}" for line in _mounts() if str(folder) in line]
    # Files may vanish during the walk.
    cgroups = (Path(path) for path, _, _ in os.walk(cluster_supervisor.CGROUPS))
    left += [f"cgroup: {path}" for path in cgroups if path.name == folder.name]
    left += [f"folder: {folder}"] if folder.exists() else []
    return left


def _processes() -> dict[int, tuple[int, str]]:
    """Id → parent and start time of every process that has not ended."""
    found: dict[int, tuple[int, str]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the name in parentheses: state, parent, …, start time.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in ("Z", "X"):
                    found[int(entry.name)] = (int(fields[1]), fields[19])
    return found


def _mounts() -> Iterator[str]:
    for entry in PROC.glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            yield from entry.read_text(errors="replace").splitlines()


def _is_working_in(pid: int, folder: Path) -> bool:
    try:
        return (PROC / str(pid) / "cwd").readlink().is_relative_to(folder)
    except OSError:
        return False


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
    except OSError:
        return "(ended meanwhile)"
