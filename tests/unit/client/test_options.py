"""Options as our API says them, in BullMQ's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from toril import Deduplication, Queue, errors, exponential, fixed, keep
from toril.client import options as enqueue_options

NOW_MS = 1_000_000


@pytest.mark.parametrize(
    ("options", "wire"),
    [
        ({}, {}),
        ({"delay": 1.5}, {"delay": 1500}),
        ({"delay": timedelta(minutes=1)}, {"delay": 60_000}),
        ({"run_at": datetime.fromtimestamp(1060, UTC)}, {"delay": 60_000}),
        ({"run_at": datetime.fromtimestamp(1, UTC)}, {"delay": 0}),
        ({"priority": 5, "lifo": True, "attempts": 3, "job_id": "w-42"},
         {"priority": 5, "lifo": True, "attempts": 3, "jobId": "w-42"}),
        ({"backoff": 2}, {"backoff": {"type": "fixed", "delay": 2000}, "torilMaxDelay": None}),
        ({"backoff": fixed(timedelta(seconds=3))},
         {"backoff": {"type": "fixed", "delay": 3000}, "torilMaxDelay": None}),
        ({"backoff": exponential(5, jitter=0.2, max=600)},
         {"backoff": {"type": "exponential", "delay": 5000, "jitter": 0.2}, "torilMaxDelay": 600_000}),
        ({"keep_completed": True, "keep_failed": False}, {"removeOnComplete": False, "removeOnFail": True}),
        ({"deduplication": "u-42"}, {"deduplication": {"id": "u-42"}}),
        ({"deduplication": Deduplication("u-42", ttl=timedelta(minutes=1), extend=True, keep_last_if_active=True)},
         {"deduplication": {"id": "u-42", "ttl": 60_000, "extend": True, "keepLastIfActive": True}}),
        ({"keep_completed": 10}, {"removeOnComplete": 10}),
        ({"keep_completed": keep(count=10, age=timedelta(days=1))}, {"removeOnComplete": {"count": 10, "age": 86_400}}),
    ],
)  # fmt: skip
def test_translation(options: dict[str, Any], wire: dict[str, Any]) -> None:
    assert enqueue_options.to_bullmq(options, NOW_MS) == wire


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dealy": 1}, "dealy: is unknown; known options are attempts, backoff"),
        ({"delay": -1}, "delay: must be seconds"),
        ({"delay": float("nan")}, "delay: must be seconds"),
        ({"delay": True}, "delay: must be seconds"),
        ({"delay": 1e13}, "delay: must be seconds"),
        ({"delay": 10**400}, "delay: must be seconds"),
        ({"run_at": datetime(2026, 1, 1)}, "run_at: must be a datetime with a time zone"),
        ({"run_at": datetime.now(UTC), "delay": 1}, "run_at: give either"),
        ({"deduplication": 7}, "deduplication: must be text"),
        ({"deduplication": ""}, "deduplication.id: must be text"),
        ({"deduplication": Deduplication("a", ttl=-1)}, "deduplication.ttl: must be seconds"),
        ({"keep_completed": -1}, "keep_completed: must be True, False"),
        ({"priority": 2**21}, "priority"),
        ({"attempts": 1.5}, "attempts"),
        ({"job_id": "7"}, "jobId"),
    ],
)
def test_wrong_options_are_refused_where_they_are_written(options: dict[str, Any], words: str) -> None:
    queue = Queue("a")
    with pytest.raises(errors.InvalidOptionError) as caught:
        queue.task(**options)(lambda: None)
    assert words in str(caught.value)


def test_the_nearest_option_wins() -> None:
    queue = Queue("a", attempts=3, backoff=exponential(5, max=60))
    task = queue.task(name="send", attempts=4)(lambda: None)
    assert task.draft().job.options.wire["attempts"] == 4
    changed = task.options(attempts=5, backoff=fixed(1))
    assert changed.draft().job.options.wire == {"attempts": 5, "backoff": {"type": "fixed", "delay": 1000}}
    assert task.draft().job.options.wire["torilMaxDelay"] == 60_000, "the task itself is as before"


def test_what_a_childs_failure_does_replaces_what_the_queue_says() -> None:
    queue = Queue("a", on_failure="fail_parent")
    task = queue.task(name="send")(lambda: None)
    assert task.draft().job.options.wire == {"attempts": 0, "fpof": True}
    changed = task.options(on_failure="remove_dependency")
    assert changed.draft().job.options.wire == {"attempts": 0, "rdof": True}
    with pytest.raises(errors.InvalidOptionError, match="on_failure: must be one of fail_parent, continue_parent"):
        task.options(on_failure="explode")  # type: ignore[arg-type]


def test_names_are_taken_once() -> None:
    queue = Queue("a")

    @queue.task
    def send_it() -> None: ...

    assert send_it.name == "send-it"
    with pytest.raises(errors.InvalidOptionError, match="queue a has a task 'send-it' already"):
        queue.task(name="send-it")(lambda: None)
    queue.default(lambda job: None)
    with pytest.raises(errors.InvalidOptionError, match="queue a has a default already"):
        queue.default(lambda job: None)


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"removeOnComplete": 100}, "removeOnComplete", "keep_completed=100"),
        ({"removeOnFail": True}, "removeOnFail", "keep_failed=100, true is False"),
        ({"jobId": "a"}, "jobId", "is written job_id here"),
        ({"repeat": {"pattern": "* * * * *"}}, "repeat", "queue.schedulers.upsert(id, cron="),
        ({"cron": "* * * * *"}, "cron", "queue.schedulers.upsert(id, cron="),
        ({"failParentOnFailure": True}, "failParentOnFailure", 'on_failure="fail_parent"'),
        ({"keepLogs": 5}, "keepLogs", "queue.add(name, data, {…})"),
        ({"max_retries": 5}, "max_retries", "is written attempts here"),
        ({"backoff": {"type": "exponential", "delay": 5}}, "backoff", "exponential(seconds)"),
        ({"prioriy": 5}, "prioriy", "known options are attempts, backoff"),
        ({1: 5, "zz": 6}, "1", "known options are"),
    ],
)
def test_what_is_written_otherwise_here_says_how(options: dict[Any, Any], field: str, words: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        enqueue_options.to_bullmq(options, 0)
    assert caught.value.field == field
    assert words in caught.value.problem
