"""Lua and Python agree: every script has a function of its name, with the keys and arguments its header lists."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from toril.engine import administration, lua_loader, scripts
from toril.engine.codes import Code
from toril.engine.keys import FAMILIES, JOB_PARTS, QueueKeys
from toril.engine.redis.connection import Call
from toril.engine.scripts import Taker
from toril.jobs.job import JobState, NewJob
from toril.jobs.options import JobOptions
from toril.jobs.outcome import Finish, TakenJob
from toril.jobs.queue_defaults import QueueDefaults
from toril.jobs.schedule import Schedule
from toril.jobs.scheduler import JobTemplate, NextJob

LUA = Path(lua_loader.__file__).with_name("lua")
OTHER_NUMBERS = {"obliterate.lua", "sweep_jobs.lua", "write_defaults.lua", "includes/taking.lua"}
"""Files whose negative answers are no codes of jobs: their headers and functions say what the answers mean."""
KEYS = QueueKeys("q")
JOB = TakenJob("1", {b"name": b"n", b"ats": b"1"}, "t:1")
EXAMPLES: dict[str, Call[Any]] = {
    "add_jobs": scripts.add_jobs(KEYS, [NewJob.create("n", {}, JobOptions())], now_ms=1),
    "add_flow": scripts.add_flow([(KEYS, NewJob.create("n", {}, JobOptions()))], now_ms=1),
    "finish_and_take": scripts.finish_and_take(KEYS, Taker(), [Finish.completed(JOB, "1")], 1, "t:2"),
    "register_worker": scripts.register_worker(KEYS, "w", "p", "", max_stalled_count=1, lifetime_ms=1, is_start=True),
    "flag_workers": scripts.flag_workers(KEYS, ["w"], 1),
    "extend_locks": scripts.extend_locks(KEYS, [JOB], 1),
    "adopt_jobs": scripts.adopt_jobs(KEYS, "t:", ["1"]),
    "recover_stalled": scripts.recover_stalled(KEYS, max_stalled_count=1, interval_ms=1),
    "pause": scripts.pause(KEYS),
    "resume": scripts.resume(KEYS),
    "set_limits": scripts.set_limits(KEYS, {"concurrency": 1}),
    "read_signals": scripts.read_signals([KEYS]),
    "read_job": scripts.read_job(KEYS, "1"),
    "read_children": scripts.read_children(KEYS, "1"),
    "read_jobs": scripts.read_jobs(KEYS, JobState.WAITING, first=0, last=-1),
    "count_priorities": scripts.count_priorities(KEYS, [0, 1]),
    "promote_job": scripts.promote_job(KEYS, "1"),
    "retry_job": scripts.retry_job(KEYS, "1", "failed"),
    "requeue_jobs": scripts.requeue_jobs(KEYS, "failed", count=1),
    "change_delay": scripts.change_delay(KEYS, "1", 1),
    "change_priority": scripts.change_priority(KEYS, "1", 1),
    "remove_job": scripts.remove_job(KEYS, "1", with_children=True, count=1),
    "remove_children": scripts.remove_children(KEYS, "1", count=1),
    "leave_parent": scripts.leave_parent(KEYS, "1"),
    "sweep_jobs": scripts.sweep_jobs(KEYS, "wait", skip=0, count=1),
    "obliterate": scripts.obliterate(KEYS, force=False, count=1),
    "update_progress": scripts.update_progress(KEYS, "1", "1"),
    "add_log": scripts.add_log(KEYS, "1", "row", None),
    "read_schedulers": scripts.read_schedulers(KEYS, "due", 0, 10),
    "upsert_scheduler": scripts.upsert_scheduler(
        KEYS, scripts.Upsert("s", Schedule(every_ms=1), JobTemplate(), None, 1, keeps_slot=False)
    ),
    "advance_schedulers": scripts.advance_schedulers(KEYS, [NextJob("s", 1, 2, "n", "{}", {"attempts": 0})]),
    "promote_due": scripts.promote_due(KEYS),
    "remove_scheduler": scripts.remove_scheduler(KEYS, "s"),
    "update_data": scripts.update_data(KEYS, "1", "1"),
    "write_defaults": scripts.write_defaults(KEYS, "cluster", "uid", 1, QueueDefaults()),
}


def code_of(path: Path) -> str:
    """A Lua file without comments."""
    return "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("--"))


def header(name: str) -> str:
    lines = lua_loader.load(name).source.splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end])


def test_every_script_has_its_function_and_its_example() -> None:
    functions = {
        name for name, function in inspect.getmembers(scripts, inspect.isfunction)
        if function.__module__.startswith(scripts.__name__)
    }  # fmt: skip
    assert set(lua_loader.names()) == functions == set(EXAMPLES)


@pytest.mark.parametrize("name", lua_loader.names())
def test_keys_are_those_of_the_header_in_order(name: str) -> None:
    listed = re.findall(r"KEYS\[\d+\] ([a-z:-]+)|KEYS, ten for each", header(name))
    call = EXAMPLES[name]
    if name == "read_signals":
        assert len(call.keys) == 10
        return
    assert len(listed) == len(call.keys)
    for word, key in zip(listed, call.keys, strict=True):
        # "the job (hash)", "its logs (list)" describe keys that depend on an argument.
        assert word in ("the", "its") or key == KEYS.base + word


@pytest.mark.parametrize("name", lua_loader.names())
def test_arguments_are_as_many_as_the_header_lists(name: str) -> None:
    text = header(name)
    numbers = [int(number) for number in re.findall(r"ARGV\[(\d+)\]", text)]
    repeated = re.search(r"ARGV\[(\d+)\.\.\.\]", text)
    given = len(EXAMPLES[name].args)
    if repeated is None:
        assert given == max(numbers, default=0)
    else:
        assert given > int(repeated.group(1)) - 1


@pytest.mark.parametrize("name", lua_loader.names())
def test_a_header_says_what_is_returned_and_what_it_costs(name: str) -> None:
    text = header(name)
    assert "-- Returns:" in text
    assert "-- Cost:" in text


def test_the_codes_of_scripts_are_those_of_the_enum() -> None:
    answered: set[int] = set()
    for path in LUA.rglob("*.lua"):
        if path.relative_to(LUA).as_posix() not in OTHER_NUMBERS:
            pattern = r"(?:return|and|or|codes\[\w+\] =) (-\d+)\b(?!,)"
            answered |= {int(number) for number in re.findall(pattern, code_of(path))}
    assert answered == {code.value for code in Code if code < 0}


def test_scripts_build_keys_of_names_that_python_knows() -> None:
    queue_names = {getattr(KEYS, slot).removeprefix(KEYS.base) for slot in KEYS.__slots__}
    known = queue_names | {f":{part}" for part in JOB_PARTS} | set(FAMILIES) | {":"}
    built: set[str] = set()
    for path in LUA.rglob("*.lua"):
        built |= set(re.findall(r"(?:base|key|link)\w*\)? \.\. '([^' ]+)'", code_of(path), re.IGNORECASE))
    assert {"wait", ":lock", "de:"} <= built
    assert built <= known
    table = re.search(r"KEY_NAMES = \{(.*?)\}", code_of(LUA / "includes" / "queue.lua"), re.DOTALL)
    assert table is not None
    assert set(re.findall(r"= '([^']+)'", table.group(1))) <= queue_names


@pytest.mark.parametrize("name", sorted({*lua_loader.names()} - {"obliterate", "sweep_jobs", "write_defaults"}))
def test_a_header_lists_the_codes_that_its_script_and_includes_return(name: str) -> None:
    returns = re.split(r"\n-- [A-Z][a-z]+:", header(name).partition("-- Returns:")[2])[0]
    returned: set[int] = set()
    for line in lua_loader.load(name).source.splitlines():
        if re.match(r"\s*(return|codes\[index\] =) ", line):
            returned.update(int(number) for number in re.findall(r"(?<= )-\d(?= or |$)", line))
    assert {int(number) for number in re.findall(r"(?<!\w)-\d\b", returns)} == returned


def test_the_default_cap_of_events_is_one_number_in_both_languages() -> None:
    source = lua_loader.load("pause").source
    assert re.findall(r"DEFAULT_MAX_EVENTS = '(\d+)'", source) == [str(administration.DEFAULT_MAX_EVENTS)]
