"""The judge of the long runs excuses what was done to a process, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import chaos

SLEEPER, OTHER = 1, 2
ASLEEP = chaos.Span(1_000, 7_000)
"""When the sleeper was stopped, milliseconds."""
JOB, ANOTHER = "job", "another"


@pytest.mark.parametrize(
    ("starts", "reason"),
    [
        ([(6_900, OTHER, JOB), (7_010, SLEEPER, JOB)], "woke up with it"),
        # On a busy machine.
        ([(7_900, OTHER, JOB), (8_300, SLEEPER, JOB)], "woke up with it"),
        ([(7_900, OTHER, JOB), (8_300, SLEEPER, ANOTHER), (8_301, SLEEPER, JOB)], "woke up with it"),
        ([(900, SLEEPER, JOB), (5_500, OTHER, JOB)], "asleep"),
        # It had come to itself long before.
        ([(7_900, OTHER, JOB), (7_020, SLEEPER, ANOTHER), (8_300, SLEEPER, JOB)], ""),
        ([(14_000, OTHER, JOB), (14_300, SLEEPER, JOB)], ""),
        ([(500, SLEEPER, JOB), (600, OTHER, JOB)], ""),
    ],
)
def test_starts_around_a_sleep(tmp_path: Path, starts: list[tuple[int, int, str]], reason: str) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{at_ms * 1_000_000} {pid} start {job_id} 0\n" for at_ms, pid, job_id in starts))
    plan = chaos.Plan()
    plan.sleeps[SLEEPER].append(chaos.Span(*(at_ms * 1_000_000 for at_ms in ASLEEP)))
    verdict = chaos.judge(log, plan)
    assert dict(verdict.excused) == ({reason: 1} if reason else {})
    assert [*verdict.twice] == ([] if reason else [JOB])
