"""The README's minute without a cluster, as a reader does it: its files, its commands, its results."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import documents, node_peer
from support.documents import ROOT, Block
from support.redis_server import die_with_parent
from support.waiting import wait_until

BLOCKS = documents.blocks(ROOT / "README.md")
NO_NODE = node_peer.reason_not_to_run()
URL = re.compile(r"redis://127\.0\.0\.1:\d+/0")


def block_with(language: str, text: str) -> Block:
    """The one block of a language that holds `text`."""
    (found,) = [block for block in BLOCKS if block.language == language and text in block.text]
    return found


class Reader:
    """Somebody who typed the README's files into a folder and has `toril dev` running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._log = (folder / "log").open("wb")
        (command,) = [
            words for words in documents.commands(block_with("sh", "toril dev")) if words[:2] == ["toril", "dev"]
        ]
        self.process = subprocess.Popen(
            command, cwd=folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            preexec_fn=die_with_parent,
        )  # fmt: skip

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def redis_url(self) -> str:
        """The address that `toril dev` prints."""
        found: list[str] = wait_until(lambda: URL.findall(self.log), "the address of Redis")
        return found[0]

    def run(self, script: str) -> str:
        """Run lines in a shell of the reader's and return what they print on stdout."""
        script = URL.sub(self.redis_url(), script)
        environment = {**self.environment, "REDIS_URL": self.redis_url(), "npm_config_prefer_offline": "true"}
        done = subprocess.run(
            ["bash", "-euc", script], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}\n{self.log}"
        return done.stdout

    def stop(self) -> int:
        """Ctrl-C."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self._log.close()


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("readme")
    files = {
        "jobs.py": block_with("python", "@emails.task"),
        "add.py": block_with("python", "asyncio.run"),
        "add.mjs": block_with("js", "bullmq"),
        "email.yaml": block_with("yaml", "kind: JobQueue"),
    }
    for name, block in files.items():
        (folder / name).write_text(block.text)
    started = Reader(folder)
    yield started
    started.stop()


@pytest.mark.requirement("Z-21")
def test_a_job_added_on_the_command_line_prints_its_result(reader: Reader) -> None:
    assert reader.run(block_with("sh", "toril job add").text) == '"sent to ada@example.org"\n'


@pytest.mark.skipif(bool(NO_NODE), reason=NO_NODE or "")
@pytest.mark.requirement("Z-21", "T108")
def test_a_job_added_by_bullmq_gives_its_result_to_bullmq(reader: Reader) -> None:
    """The packages are those that the README has one install, and none that lie about here."""
    lines = reader.run(block_with("sh", "node add.mjs").text).splitlines()
    assert lines[-1] == "sent to grace@example.org"


@pytest.mark.requirement("Z-21")
def test_a_job_added_in_python_gives_its_result(reader: Reader) -> None:
    assert re.fullmatch(r"\d+ sent to linus@example\.org\n", reader.run(f"{sys.executable} add.py"))


@pytest.mark.requirement("Z-29")
def test_an_address_without_an_at_fails_at_once(reader: Reader) -> None:
    line = 'toril job add email send-welcome --data \'{"to": "ada"}\' --attempts 3 --wait 2>&1 || echo code $?'
    assert "failed: ada is no address\ncode 1\n" in reader.run(line)


def test_the_python_is_typed_throughout(reader: Reader) -> None:
    assert reader.run("mypy --strict --cache-dir cache jobs.py add.py").startswith("Success")


def test_ctrl_c_ends_local_mode_in_order(reader: Reader) -> None:
    reader.redis_url()
    assert reader.stop() in (0, 130)
