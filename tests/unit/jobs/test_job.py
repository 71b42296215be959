"""Reading stored jobs, also damaged and foreign ones."""

from __future__ import annotations

import pytest

from toril import errors
from toril.jobs.job import JobRecord


def record(**fields: str) -> JobRecord:
    return JobRecord("7", {name.encode(): value.encode() for name, value in fields.items()})


def test_a_job_with_a_name_only_reads() -> None:
    job = record(name="a")
    assert (job.data, job.opts, job.attempts_made, job.progress, job.stacktrace) == ({}, {}, 0, 0, ())
    assert job.return_value is None
    assert job.finished_on_ms is None


def test_short_codes_read_as_public_names() -> None:
    assert record(opts='{"kl":5,"fpof":true,"attempts":3}').opts == {
        "keepLogs": 5, "failParentOnFailure": True, "attempts": 3,
    }  # fmt: skip


def test_the_older_name_of_attempts_wins() -> None:
    assert record(atm="1", attemptsMade="4").attempts_made == 4


def test_times_may_have_a_fraction() -> None:
    assert record(timestamp="1795378741099.5").timestamp_ms == 1795378741099


def test_numbers_that_are_none_read_as_missing() -> None:
    assert record(processedOn="soon", timestamp="inf").processed_on_ms is None


def test_the_failure_is_text_and_the_result_json() -> None:
    job = record(failedReason='{"not": json', returnvalue='{"a":[1]}', stacktrace='["one","two"]')
    assert job.failed_reason == '{"not": json'
    assert job.return_value == {"a": [1]}
    assert job.stacktrace == ("one", "two")


def test_a_damaged_stacktrace_reads_as_empty() -> None:
    assert record(stacktrace="{").stacktrace == ()


@pytest.mark.parametrize("fields", [{"data": "{"}, {"opts": "["}, {"opts": "3"}])
def test_damaged_json_is_an_error_that_names_the_field(fields: dict[str, str]) -> None:
    job = record(**fields)
    with pytest.raises(errors.InvalidPayloadError) as refusal:
        _ = (job.data, job.opts)
    assert refusal.value.field in fields
