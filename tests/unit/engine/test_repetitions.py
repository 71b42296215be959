"""Which adds are sent again by themselves when the connection fails."""

from __future__ import annotations

from typing import Any

import pytest

from toril.engine import producer
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions

PARENT = {"id": "p", "queue": "bull:q"}


@pytest.mark.parametrize(
    ("options", "are_repeated"),
    [
        ([{"jobId": "a"}, {"jobId": "b"}], True),
        ([{"jobId": "a"}, {}], False),
        # It may have ended meanwhile: its parent would wait for it once more.
        ([{"jobId": "a"}, {"jobId": "b", "parent": PARENT}], False),
    ],
)
def test_only_what_stays_single(options: list[dict[str, Any]], are_repeated: bool) -> None:
    jobs = [NewJob.create("n", {}, JobOptions.from_bullmq(each)) for each in options]
    assert bool(list(producer.repeat_pauses(jobs))) == are_repeated
