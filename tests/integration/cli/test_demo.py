"""The demo as a program: on the example as it is, and with a shorter backoff."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.local_mode import local_mode, toril

EXAMPLE = Path(__file__).parents[3] / "examples" / "zettanote"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ZettaNote's manifests and tasks, with retries after 0.3 s and 0.6 s."""
    text = (EXAMPLE / "queues.yaml").read_text()
    (tmp_path / "queues.yaml").write_text(text.replace("delay: 5000", "delay: 300"))
    shutil.copy(EXAMPLE / "jobs.py", tmp_path)
    return tmp_path


def test_every_job_is_accounted_for() -> None:
    done = toril("dev", "-f", str(EXAMPLE), "--demo", "--jobs", "30", timeout_seconds=110)
    assert done.returncode == 0, done.stdout + done.stderr
    out = done.stdout
    assert re.search(r"^page-save +replicas 0→[1-4] ", out, re.MULTILINE)
    assert re.search(r"^  workers        0 → [1-4] .*→ 0$", out, re.MULTILINE)
    assert "  completed      19 of 19 planned" in out
    assert "  failed         1 of 1 planned (invalid data, never retried)" in out
    assert "30 of 30 jobs have ended" in out
    assert re.search(
        r"^  image-cleanup  runOnCreate: completed; next slot .* (00|06|12|18):00:00 UTC$", out, re.MULTILINE
    )
    assert re.search(r"^  task-reminder  runOnCreate: completed; next slot .*:[0-5][05]:00 UTC$", out, re.MULTILINE)
    assert re.search(r"^All 30 jobs are accounted for, after [0-9]+ s\.$", out, re.MULTILINE)
    assert "cooldown and scale-down window are 3 s" in done.stderr
    assert "planned failure" not in done.stderr


def test_a_job_that_does_not_go_as_planned_is_told(folder: Path) -> None:
    jobs = (folder / "jobs.py").read_text()
    (folder / "jobs.py").write_text(jobs.replace("if job.attempt <= times:", "if job.attempt < times:"))
    done = toril("dev", "-f", str(folder), "--demo", "--jobs", "6", timeout_seconds=110)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "its function ran 2 times, planned was 3" in done.stdout
    assert "accounted for" not in done.stdout


def test_ctrl_c_ends_the_demo(folder: Path) -> None:
    with local_mode(folder, "--demo") as running:
        running.wait_text("of 300 jobs have ended")
        running.interrupt()
        assert running.wait() == 130
        running.wait_gone()
