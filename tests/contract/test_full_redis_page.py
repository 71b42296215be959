"""Every script has a case for a full Redis, and docs/at-least-once.md says what the tests of these cases have seen."""

from __future__ import annotations

from pathlib import Path

from support import full_redis
from toril.engine import lua_loader

PAGE = Path(__file__).resolve().parents[2] / "docs" / "at-least-once.md"


def test_every_script_has_a_case() -> None:
    untried = set(lua_loader.names()) - {case.script for case in full_redis.CASES}
    assert not untried, "add cases to tests/support/full_redis.py: is the script refused when Redis is full?"


def test_the_table_is_that_of_the_tests() -> None:
    assert full_redis.table() in PAGE.read_text(encoding="utf-8"), f"the table is now:\n{full_redis.table()}"
