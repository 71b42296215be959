"""Defaults of a queue: what may be one, and how they are stored."""

from __future__ import annotations

import pytest

from toril import errors
from toril.jobs.queue_defaults import QueueDefaults


def test_what_is_stored_reads_back_the_same() -> None:
    backoff = {"type": "exponential", "delay": 5000, "jitter": 0.5}
    given = QueueDefaults.create(
        {"attempts": 3, "backoff": backoff, "removeOnComplete": {"count": 5}, "keepLogs": 10},
        size_limit_bytes=1000,
        priorities={"urgent": 1, "später": 9},
    )
    options, limit, priorities = given.to_texts()
    assert (limit, priorities) == ("1000", '{"später":9,"urgent":1}')
    assert QueueDefaults.from_texts(options, limit, priorities) == given


def test_the_same_content_is_stored_as_the_same_text() -> None:
    first = QueueDefaults.create({"attempts": 3, "lifo": True})
    second = QueueDefaults.create({"lifo": True, "attempts": 3.0})
    assert first.to_texts() == second.to_texts() == ('{"attempts":3,"lifo":true}', "", "")


def test_defaults_that_say_nothing_are_empty() -> None:
    assert QueueDefaults().is_empty
    assert QueueDefaults.create({"attempts": None}).is_empty
    assert QueueDefaults.from_texts("", "", "").is_empty
    assert not QueueDefaults.create({"attempts": 1}).is_empty
    assert not QueueDefaults(size_limit_bytes=1).is_empty


@pytest.mark.parametrize("name", ["jobId", "timestamp", "parent", "deduplication", "telemetry", "tm"])
def test_what_belongs_to_one_job_is_no_default(name: str) -> None:
    with pytest.raises(errors.InvalidOptionError, match=rf"spec.defaultJobOptions.{name}: belongs to one job"):
        QueueDefaults.create({name: "x"}, path="spec.defaultJobOptions")


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        (("{", "", ""), "options"),
        (("[1]", "", ""), "options"),
        (('{"attempts":"many"}', "", ""), "options.attempts"),
        (('{"jobId":"a"}', "", ""), "options.jobId"),
        (("", "many", ""), "sizeLimit"),
        (("", "²", ""), "sizeLimit"),
        (("", "9" * 17, ""), "sizeLimit"),
        (("", "", "7"), "priorities"),
    ],
)
def test_stored_nonsense_is_an_error_with_its_field(texts: tuple[str, str, str], field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        QueueDefaults.from_texts(*texts)
    assert caught.value.field == field
