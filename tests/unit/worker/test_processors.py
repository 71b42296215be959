"""Finding the user's code, and which function runs which job."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.taken import taken_job
from toril import Job, Queue, errors
from toril.jobs.children import Children
from toril.jobs.parents import ParentLink
from toril.queue import known_queues
from toril.tasks.context import JobRun
from toril.worker import processors
from toril.worker.processors import How, Processors


class NoChannel:
    """A job that says nothing."""

    async def progress(self, job_id: str, progress_json: str, /) -> None:
        raise AssertionError

    async def log(self, job_id: str, row: str, keep: int | None, /) -> int:
        raise AssertionError

    async def update_data(self, job_id: str, data_json: str, /) -> None:
        raise AssertionError

    async def children(self, job_id: str, /) -> Children:
        raise AssertionError

    async def remove_unprocessed_children(self, job_id: str, /) -> None:
        raise AssertionError

    def as_parent(self, job_id: str, /) -> ParentLink:
        raise AssertionError


def run_of(data: str) -> JobRun:
    return JobRun(taken_job(data=data), NoChannel(), asyncio.get_running_loop())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder for modules; they are forgotten afterwards, and no queue is known before."""
    elsewhere = list(known_queues)
    known_queues.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]
    known_queues.update(elsewhere)


def test_each_function_is_run_in_its_way() -> None:
    queue = Queue("a")

    @queue.task
    async def waits() -> None: ...
    @queue.task
    def blocks() -> None: ...
    @queue.task(inline=True)
    def quick() -> None: ...
    @queue.default
    async def rest(job: Job) -> None: ...

    found = Processors.of_queues("a", [queue])
    assert [found.find(name).how for name in ("waits", "blocks", "quick", "else")] == [
        How.ASYNC, How.THREAD, How.INLINE, How.ASYNC,
    ]  # fmt: skip
    assert found.names == ["blocks", "quick", "waits"]


def test_a_callable_object_is_asked_what_it_is() -> None:
    class Call:
        async def __call__(self, job: Job) -> None: ...

    queue = Queue("a")
    queue.default(Call())
    assert Processors.of_queues("a", [queue]).find("x").how is How.ASYNC


async def test_data_become_arguments_and_the_running_job_is_filled_in() -> None:
    queue = Queue("a")

    @queue.task
    def send(to: str, copies: int = 1, *, job: Job = Job.current()) -> Any:
        return to, copies, job.id

    call = Processors.of_queues("a", [queue]).find("send").call
    assert call(run_of('{"to": "x"}')) == ("x", 1, "1")
    for data, words in (('{"to": 1}', "data.to: must be text"), ("{", "data: is not JSON"), ("3", "must be an object")):
        with pytest.raises(errors.UnrecoverableError, match=words):
            call(run_of(data))


def test_a_job_that_nothing_runs_is_named() -> None:
    queue = Queue("a")
    queue.task(name="known")(lambda: None)
    with pytest.raises(errors.UnrecoverableError, match="queue 'a' has no task 'x' and no default; its tasks are kno"):
        Processors.of_queues("a", [queue]).find("x")


def test_several_queue_objects_of_one_name_are_one_queue() -> None:
    first, second = Queue("a"), Queue("a")
    first.task(name="one")(lambda: None)
    second.task(name="two")(lambda: None)
    assert Processors.of_queues("a", [first, second]).names == ["one", "two"]
    second.task(name="one")(lambda: None)
    with pytest.raises(errors.ProcessorLoadError, match="two tasks of queue 'a' are named 'one'"):
        Processors.of_queues("a", [first, second])


def test_a_module_is_found_in_the_current_folder(folder: Path) -> None:
    (folder / "one_queue.py").write_text(
        "from toril import Queue\nhere = Queue('here')\n@here.task\ndef do_it() -> None: ...\n"
    )
    assert processors.load({"python": {"module": "one_queue"}}, "here").names == ["do-it"]
    assert processors.only_queue_of("one_queue") == "here"
    with pytest.raises(errors.ProcessorLoadError, match="module 'one_queue' has no queue 'there'"):
        processors.load({"python": {"module": "one_queue"}}, "there")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("\n1 / 0", r"ZeroDivisionError: division by zero \(.*broken.py, line 2\)"),
        ("def f(", "SyntaxError"),
        ("\nimport sys; sys.exit(0)", r"ends the program when it is imported: sys.exit\(0\) \(.*broken.py, line 2\)"),
        ("raise SystemExit", r"ends the program when it is imported: sys.exit\(\)"),
        ("raise SystemExit('no configuration')", r"sys.exit\(no configuration\)"),
        ("raise KeyboardInterrupt", r"cannot be imported: KeyboardInterrupt: "),
        ("raise ValueError('two\\nlines')", r"cannot be imported: ValueError: two lines"),
    ],
)
def test_a_broken_module_is_told_with_the_place(folder: Path, text: str, words: str) -> None:
    (folder / "broken.py").write_text(text)
    with pytest.raises(errors.ProcessorLoadError, match=words):
        processors.import_module("broken")


def test_a_missing_module_is_not_blamed_on_itself(folder: Path) -> None:
    with pytest.raises(errors.ProcessorLoadError, match=r"there is no module 'app.jobs' \(looked for 'app' in"):
        processors.import_module("app.jobs")


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({}, "TORIL_PROCESSOR holds nothing"),
        ({"exec": {}}, "TORIL_PROCESSOR holds exec; this version knows"),
        ({"python": "app"}, "python must be"),
        ({"python": {"module": ""}}, "python must be"),
        ({"python": {"module": "a", "function": "b"}}, "python must be"),
    ],
)
def test_a_wrong_description_is_refused(described: dict[str, Any], words: str) -> None:
    with pytest.raises(errors.SettingsError, match=words):
        processors.load(described, "a")
