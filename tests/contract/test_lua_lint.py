"""`make lint` finds what Redis would only find at the line that runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import lua_lint
from toril.engine import lua_loader

needs_luaparse = pytest.mark.skipif(
    shutil.which("node") is None or not lua_lint.LUAPARSE.exists(), reason="Node or its package luaparse is missing"
)


@needs_luaparse
@pytest.mark.parametrize(
    ("lua", "found"),
    [
        ("local function wake()\n  return tel(1)\nend\n", "line 2: unknown name tel: return tel(1)"),
        ("local a = later\nlocal later = 1\n", "line 1: unknown name later: local a = later"),
        ("written = 1\n", "line 1: unknown name written: written = 1"),
        ("if KEYS[1] then", "'end' expected"),
    ],
)
def test_a_mistake_is_found_with_its_line(lua: str, found: str) -> None:
    (problem,) = lua_lint.problems_in({"wrong": lua})
    assert problem.startswith("wrong.lua with its includes, line ")
    assert found in problem


@needs_luaparse
def test_a_script_without_one_of_its_functions_is_found() -> None:
    source = lua_loader.load("promote_job").source
    assert "local function queue_of(" in source
    without = source.replace("local function queue_of(", "local function queue_that_was(")
    assert any("unknown name queue_of" in problem for problem in lua_lint.problems_in({"promote_job": without}))


@pytest.mark.parametrize("missing", ["luaparse", "node"])
def test_a_check_that_cannot_be_made_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, missing: str
) -> None:
    if missing == "node":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(lua_lint, "LUAPARSE", tmp_path / "none")
    assert lua_lint.main() == 1
    assert "make setup" in capsys.readouterr().err
