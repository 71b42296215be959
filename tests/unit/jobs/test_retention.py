"""Forms of `removeOnComplete` and `removeOnFail`."""

from __future__ import annotations

from typing import Any

import pytest

from toril import errors
from toril.jobs.retention import KEEP_ALL, KEEP_NONE, KeepPolicy, choose


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, KEEP_NONE),
        (False, KEEP_ALL),
        (0, KEEP_NONE),
        (100, KeepPolicy(count=100)),
        (-1, KEEP_ALL),
        ({"age": 86400, "count": 1000}, KeepPolicy(count=1000, age_seconds=86400)),
        ({"age": 604800, "limit": 50}, KeepPolicy(age_seconds=604800, limit=50)),
        ({"count": 0}, KEEP_NONE),
    ],
)
@pytest.mark.requirement("Z-19", "Z-20", "M-15", "X-06")
def test_every_form_of_bullmq_is_read(value: Any, expected: KeepPolicy | None) -> None:
    assert KeepPolicy.parse(value, "opts.removeOnComplete") == expected


@pytest.mark.parametrize(
    ("value", "field"),
    [("yes", "f"), (1.5, "f"), ({"age": -1}, "f.age"), ({"count": "x"}, "f.count"), ({"ages": 1}, "f.ages")],
)
def test_anything_else_is_refused_by_its_field(value: Any, field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as refusal:
        KeepPolicy.parse(value, "f")
    assert refusal.value.field == field


def test_the_jobs_own_option_goes_before_the_workers() -> None:
    worker = KeepPolicy(count=5)
    assert choose(None, worker, "f") == worker
    assert choose(False, worker, "f") == KEEP_ALL
    assert choose(True, worker, "f") == KEEP_NONE
    assert choose(None, None, "f") == KEEP_ALL
