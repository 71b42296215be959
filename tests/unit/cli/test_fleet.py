"""Pauses after crashed workers."""

from __future__ import annotations

from toril.cli.dev.fleet import HEALTHY_MS, LONGEST_PAUSE_MS, CrashPauses


def test_pauses_double_up_to_half_a_minute() -> None:
    pauses, now_ms, seen = CrashPauses(), 0, []
    for _ in range(9):
        seen.append(pauses.note_crash(now_ms))
        now_ms += seen[-1]
    assert seen == [500, 1000, 2000, 4000, 8000, 16000, LONGEST_PAUSE_MS, LONGEST_PAUSE_MS, LONGEST_PAUSE_MS]


def test_workers_that_crash_together_count_once() -> None:
    pauses = CrashPauses()
    assert [pauses.note_crash(now_ms) for now_ms in (0, 10, 20)] == [500, 490, 480]
    assert pauses.note_crash(500) == 1000


def test_nothing_starts_during_a_pause_and_then_one_at_a_time() -> None:
    pauses = CrashPauses()
    assert pauses.allowed(4, 0, 0) == 4
    pauses.note_crash(0)
    assert pauses.allowed(4, 0, 499) == 0
    assert pauses.allowed(4, 0, 500) == 1
    assert pauses.allowed(3, 1, 600) == 0
    assert pauses.allowed(-1, 0, 600) <= 0


def test_crashes_are_forgotten_after_some_time_without() -> None:
    pauses = CrashPauses()
    pauses.note_crash(0)
    assert pauses.allowed(4, 0, 500 + HEALTHY_MS) == 4
    assert pauses.note_crash(500 + HEALTHY_MS) == 500
