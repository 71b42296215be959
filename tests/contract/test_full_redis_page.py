"""docs/at-least-once.md says of a full Redis what the tests beside BullMQ have seen."""

from __future__ import annotations

from pathlib import Path

from support import full_redis

PAGE = Path(__file__).resolve().parents[2] / "docs" / "at-least-once.md"


def test_the_table_is_that_of_the_tests() -> None:
    assert full_redis.table() in PAGE.read_text(encoding="utf-8"), f"the table is now:\n{full_redis.table()}"
