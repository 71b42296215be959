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
