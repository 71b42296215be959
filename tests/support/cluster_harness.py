"""The command of `make cluster` as another process, for tests that kill it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from support import cluster_command
from support.redis_server import die_with_parent


class StartedCommand:
    """`python -m support.cluster_command ARGS`, ready to be used. Ends with its `with` block."""

    def __init__(self, *arguments: str) -> None:
        # A cluster of its own, whatever the other tests use.
        environment = {name: value for name, value in os.environ.items() if name != "TORIL_TEST_KUBECONFIG"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.cluster_command", *arguments],
            cwd=Path(__file__).parents[1], env=environment, stdout=subprocess.PIPE, text=True,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        self.pid = self._process.pid
        self.folder = self._read_folder()
        """Where the cluster keeps everything."""

    def kubectl(self, *arguments: str) -> str:
        """Output of kubectl on it, by the script that the command prints for users."""
        argv = [str(self.folder / cluster_command.KUBECTL), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout

    def kill(self) -> None:
        """End the command as SIGKILL does: nothing of its own code runs any more."""
        self._process.kill()
        self._process.wait(20)

    def __enter__(self) -> StartedCommand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read_folder(self) -> Path:
        """Read its output up to the line about its use, whose first path is in the cluster's folder."""
        assert self._process.stdout is not None
        printed: list[str] = []
        for line in self._process.stdout:
            printed.append(line)
            if found := re.search(r"use it: (\S+)", line):
                return Path(found.group(1)).parent
        raise AssertionError(f"the command ended with {self._process.wait(20)}: {''.join(printed)}")
