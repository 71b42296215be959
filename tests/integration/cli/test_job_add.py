"""`toril job add` as a program, with a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import workers
from support.engine import EngineQueue
from support.local_mode import toril
from toril.cli import main

JOBS = """
from toril import Queue, Unrecoverable
orders = Queue("orders")

@orders.task
def total(prices: list) -> float:
    return sum(prices)

@orders.task
def refuse() -> None:
    raise Unrecoverable("not today\\x1b[2J")
"""


@pytest.fixture
def worker_url(redis_url: str) -> Iterator[str]:
    """Redis of a worker of the queue `orders`."""
    with workers.start(redis_url, "orders", JOBS):
        yield redis_url


def test_waits_for_the_result(worker_url: str, tmp_path: Path) -> None:
    add = ("job", "add", "orders", "total", "--redis", worker_url, "--wait")
    (tmp_path / "data.json").write_text('{"prices": [1, 2.5]}')
    for arguments, data in (
        (("--data", '{"prices": [1, 2.5]}'), ""),
        (("--data", f"@{tmp_path}/data.json"), ""),
        (("--data", "-"), '{"prices": [1, 2.5]}'),
    ):
        done = toril(*add, *arguments, data=data)
        assert (done.stdout, done.returncode) == ("3.5\n", 0), done.stderr
        assert done.stderr.startswith("job ")


def test_tells_a_failure_and_an_end_of_patience(worker_url: str) -> None:
    add = ("job", "add", "orders", "--redis", worker_url, "--wait")
    done = toril(*add, "refuse")
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.splitlines()[-1] == "toril: job 1 failed: not today�[2J"
    done = toril(*add, "refuse", "--delay", "1h", "--timeout", "100ms")
    assert (done.stdout, done.returncode) == ("", 6)


def test_says_that_no_worker_serves_the_queue(worker_url: str) -> None:
    add = ("job", "add", "order", "total", "--redis", worker_url, "--wait", "--timeout", "20s")
    done = toril(*add)
    assert (done.stdout, done.returncode) == ("", 6)
    lines = done.stderr.splitlines()
    assert lines[0] == "job 1 added"
    assert lines[1].startswith("job 1 waits: no worker is connected to queue order; is the name right?")
    assert len(lines) == 3


def test_says_that_a_job_of_this_id_was_there(worker_url: str) -> None:
    add = ("job", "add", "orders", "total", "--redis", worker_url, "--job-id", "bill-7", "--data", '{"prices": [2]}')
    first = toril(*add)
    assert (first.stdout, first.stderr, first.returncode) == ("bill-7\n", "", 0)
    again = toril(*add, "--wait")
    assert (again.stdout, again.returncode) == ("2\n", 0)
    assert again.stderr == "nothing added: queue orders has a job bill-7 already\n"


async def test_options_reach_the_job(queue: EngineQueue, redis_url: str) -> None:
    add = ("job", "add", queue.keys.queue, "bill", "--redis", redis_url)
    options = ("--delay", "1h", "--priority", "3", "--attempts", "4", "--job-id", "b-1")
    for _ in range(2):
        assert toril(*add, *options).stdout == "b-1\n"
    stored = queue.hash("b-1")
    assert (stored["name"], stored["delay"], stored["priority"], stored["data"]) == ("bill", "3600000", "3", "{}")
    assert json.loads(stored["opts"])["attempts"] == 4
    assert queue.places() == {"delayed": ["b-1"]}


def test_wrong_usage_and_no_redis(capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = ("--redis", "redis://127.0.0.1:1")
    for arguments, code, message in (
        (("q:x", "n", *nowhere), 2, "a queue name may not hold a colon"),
        (("q", "n", "--priority", "-1", *nowhere), 2, "opts.priority"),
        (("q", "n", "--timeout", "1", *nowhere), 2, "--timeout goes with --wait"),
        (("q", "n", "--redis", "http://me:hunter2@x"), 2, "--redis: must begin with redis://"),
        (("q", "n", "--redis", "postgres://me:hunter2@x/jobs"), 2, "--redis: names a PostgreSQL"),
        (("q", "n", *nowhere), 69, "cannot connect to Redis 127.0.0.1:1/0"),
    ):
        assert main.main(["job", "add", *arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert "hunter2" not in err
