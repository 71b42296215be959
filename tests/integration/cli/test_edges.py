"""The command line at its edges: one line and the documented exit code, and what was done is never told as failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.engine import EngineQueue
from toril.cli.output import ExitCode

TORIL = str(Path(sys.executable).with_name("toril"))


def shell(line: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run one line of bash in which `toril` is the program."""
    return subprocess.run(
        ["bash", "-c", line.replace("toril ", f"{TORIL} ", 1)], capture_output=True, text=True, timeout=110, **how
    )


def add(redis_url: str, queue: str, rest: str = "") -> str:
    return f"toril job add {queue} save --redis {redis_url} {rest}"


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("--data @deep.json", "nests too deeply"),
        ("--data - < deep.json", "nests too deeply"),
        ("--data - <&-", "stdin is closed"),
        ("--data @latin.json", "is not UTF-8 text"),
        ("--data @.", "Is a directory"),
        ("--delay " + "9" * 400, "is too long"),
        ("--wait --timeout 99999999999d", "is too long"),
        ("--delay 5x", "is no length of time"),
    ],
)
def test_input_that_cannot_be_used_is_told_in_one_line(
    redis_url: str, queue: EngineQueue, tmp_path: Path, rest: str, words: str
) -> None:
    (tmp_path / "deep.json").write_text("[" * 100_000 + "]" * 100_000)
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    done = shell(add(redis_url, queue.keys.queue, rest), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert queue.places() == {}


@pytest.mark.parametrize("where", [">/dev/full", ">&-", ">&- 2>&-", "| head -c 0; exit ${PIPESTATUS[0]}"])
def test_a_job_that_was_added_is_told_as_added_wherever_the_output_goes(
    redis_url: str, queue: EngineQueue, where: str
) -> None:
    done = shell(add(redis_url, queue.keys.queue, where))
    assert done.returncode == ExitCode.OK, done.stderr
    assert queue.places() == {"wait": ["1"]}
    if "full" in where:
        assert done.stderr == (
            "toril: what was done stays done, but its output cannot be written: No space left on device; it is: 1\n"
        )


def test_a_usage_error_keeps_its_code_when_nobody_can_be_told() -> None:
    assert shell("toril job add a:b save 2>/dev/full").returncode == ExitCode.USAGE
    closed = shell("toril job add a:b save 2>&-")
    assert (closed.returncode, closed.stdout) == (ExitCode.USAGE, "")


def test_help_that_cannot_be_written_is_told_in_one_line() -> None:
    done = shell("toril dev --help >/dev/full")
    assert (done.returncode, done.stderr) == (ExitCode.FAILED, "toril: the output: No space left on device\n")


def test_a_worker_in_a_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = shell("cd gone && rmdir ../gone && toril worker run jobs", cwd=tmp_path)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.splitlines()[-1] == "toril: the current folder is gone: change into one that exists"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("TORIL_WORKER_OPTIONS", "[" * 100_000, "TORIL_WORKER_OPTIONS nests too deeply"),
        ("TORIL_CONCURRENCY", "٣", "TORIL_CONCURRENCY must be a whole number"),
        ("TORIL_CONCURRENCY", "1_0", "TORIL_CONCURRENCY must be a whole number"),
        ("TORIL_CONCURRENCY", "9" * 5000, "TORIL_CONCURRENCY must be a whole number"),
    ],
)
def test_a_workers_variables(tmp_path: Path, variable: str, value: str, words: str) -> None:
    (tmp_path / "jobs.py").write_text(
        "from toril import Queue\nmails = Queue('mail')\n@mails.task\ndef send() -> None: ...\n"
    )
    done = shell("toril worker run jobs", cwd=tmp_path, env={**os.environ, variable: value})
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.splitlines()[-1] == f"toril: {words}"
