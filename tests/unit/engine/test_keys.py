"""Key names are BullMQ's."""

from __future__ import annotations

import pytest

from toril import errors
from toril.engine.keys import QueueKeys


@pytest.mark.requirement("Z-40")
def test_names_are_bullmqs() -> None:
    keys = QueueKeys("page-save")
    assert keys.wait == "bull:page-save:wait"
    assert keys.job("12") == "bull:page-save:12"
    assert keys.lock("12") == "bull:page-save:12:lock"
    assert keys.stalled_check == "bull:page-save:stalled-check"


def test_a_prefix_may_hold_a_hash_tag() -> None:
    assert QueueKeys("a", prefix="{x}:bull").wait == "{x}:bull:a:wait"


def test_workers_are_found_by_their_connections_name() -> None:
    assert QueueKeys("email").client_name(":w:pod-1") == "bull:ZW1haWw=:w:pod-1"


@pytest.mark.parametrize("queue", ["", "a:b", "x" * 201, "tab\t", 5])
def test_names_that_bullmq_cannot_use_are_refused(queue: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as refusal:
        QueueKeys(queue)
    assert refusal.value.field == "queue"


@pytest.mark.parametrize(
    ("prefix", "job_key", "expected"),
    [
        ("bull", "bull:resize:7", ("bull:resize:", "7")),
        ("bull", "bull:resize:repeat:x:1790000000000", ("bull:resize:", "repeat:x:1790000000000")),
        ("{a}:b", "{a}:b:resize:7", ("{a}:b:resize:", "7")),
        ("bull", "other:resize:7", ("other:resize:", "7")),
    ],
)
def test_the_key_of_a_job_tells_its_queue(prefix: str, job_key: str, expected: tuple[str, str]) -> None:
    keys, job_id = QueueKeys("parents", prefix).of_job_key(job_key)
    assert (keys.base, job_id) == expected
