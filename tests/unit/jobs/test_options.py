"""Job options: what is stored, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toril import errors
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions


def test_attempts_not_given_are_stored_as_zero() -> None:
    assert JobOptions.from_bullmq(None).wire == {"attempts": 0}


def test_a_bare_backoff_becomes_fixed() -> None:
    assert JobOptions.from_bullmq({"backoff": 1000}).wire["backoff"] == {"type": "fixed", "delay": 1000}


def test_values_of_none_are_not_stored() -> None:
    given = {"removeOnComplete": None, "backoff": None, "attempts": None, "removeOnFail": {"age": 5, "count": None}}
    assert JobOptions.from_bullmq(given).wire == {"attempts": 0, "removeOnFail": {"age": 5}}


def test_names_with_short_codes_are_stored_by_them() -> None:
    assert JobOptions.from_bullmq({"keepLogs": 3}).wire == {"kl": 3, "attempts": 0}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"priority": 2**21}, "opts.priority"),
        ({"priority": 1.5}, "opts.priority"),
        ({"priority": -1}, "opts.priority"),
        ({"priority": True}, "opts.priority"),
        ({"attempts": "3"}, "opts.attempts"),
        ({"attempts": float("inf")}, "opts.attempts"),
        ({"removeOnFail": float("inf")}, "opts.removeOnFail"),
        ({"delay": "soon"}, "opts.delay"),
        ({"delay": float("nan")}, "opts.delay"),
        ({"lifo": 1}, "opts.lifo"),
        ({"removeOnComplete": "no"}, "opts.removeOnComplete"),
        ({"priorty": 1}, "opts.priorty"),
        ({"deduplication": "d"}, "opts.deduplication"),
        ({"deduplication": {}}, "opts.deduplication.id"),
        ({"deduplication": {"id": 5}}, "opts.deduplication.id"),
        ({"deduplication": {"id": "d", "ttl": "soon"}}, "opts.deduplication.ttl"),
        ({"deduplication": {"id": "d", "ttl": 1.5}}, "opts.deduplication.ttl"),
        ({"deduplication": {"id": "d", "ttl": float("inf")}}, "opts.deduplication.ttl"),
        ({"deduplication": {"id": "d", "replace": 1}}, "opts.deduplication.replace"),
        ({"deduplication": {"id": "d", "tll": 1}}, "opts.deduplication.tll"),
        ({"debounce": {"ttl": 1}}, "opts.debounce.id"),
        ({"debounce": {"id": "d"}, "deduplication": {"id": "d"}}, "opts.debounce"),
    ],
)
@pytest.mark.requirement("X-02")
def test_wrong_values_are_refused_by_their_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as refusal:
        JobOptions.from_bullmq(options)
    assert refusal.value.field == field


def test_deduplication_is_stored_by_its_short_code_without_what_is_not_given() -> None:
    given = {"deduplication": {"id": "d", "ttl": 5000.0, "extend": None, "replace": True}}
    assert JobOptions.from_bullmq(given).wire["de"] == {"id": "d", "ttl": 5000, "replace": True}
    assert JobOptions.from_bullmq({"debounce": {"id": "d"}}).wire["de"] == {"id": "d"}


@pytest.mark.parametrize("job_id", ["007", "1e3", "12a", "w-42", "a b", "repeat-x", "ünï", "x:y:z"])
def test_ids_that_bullmq_accepts(job_id: str) -> None:
    assert JobOptions.from_bullmq({"jobId": job_id}).job_id == job_id


@pytest.mark.parametrize(
    "job_id", ["0", "123", "-5", "0:x", "a:b", "a:b:c:d", "meta", "wait", "stalled-check", "de", "repeat:x:1", "a\nb"]
)
@pytest.mark.requirement("T80")
def test_ids_that_would_collide_are_refused(job_id: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as refusal:
        JobOptions.from_bullmq({"jobId": job_id})
    assert refusal.value.field == "opts.jobId"


def test_the_size_limit_counts_bytes() -> None:
    options = JobOptions.from_bullmq({"sizeLimit": 5})
    assert NewJob.create("n", "abc", options).data_json == '"abc"'
    with pytest.raises(errors.InvalidPayloadError, match="6 bytes"):
        NewJob.create("n", "éé", options)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_job_needs_a_name(name: Any) -> None:
    with pytest.raises(errors.InvalidOptionError) as refusal:
        NewJob.create(name, {}, JobOptions())
    assert refusal.value.field == "name"


def test_the_link_to_a_parent() -> None:
    parent = {"id": "p:1:2", "queue": "bull:reports"}
    options = JobOptions.from_bullmq(
        {"parent": parent, "failParentOnFailure": True, "removeDependencyOnFailure": False}
    )
    assert options.wire == {"attempts": 0, "parent": parent, "fpof": True, "rdof": False}
    links = json.loads(NewJob.create("n", {}, options).links_json)
    assert links["parentKey"] == "bull:reports:p:1:2"
    assert json.loads(links["parent"]) == {"id": "p:1:2", "queueKey": "bull:reports", "fpof": True}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"parent": "p"}, "opts.parent"),
        ({"parent": {"id": "p"}}, "opts.parent"),
        ({"parent": {"id": "", "queue": "bull:q"}}, "opts.parent.id"),
        ({"parent": {"id": "p", "queue": "q"}}, "opts.parent.queue"),
        ({"parent": {"id": "p", "queue": "bull:q"}, "deduplication": {"id": "x"}}, "opts.deduplication"),
        ({"failParentOnFailure": 1}, "opts.failParentOnFailure"),
        ({"failParentOnFailure": True, "ignoreDependencyOnFailure": True}, "opts.ignoreDependencyOnFailure"),
    ],
)
def test_links_that_make_no_sense_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        JobOptions.from_bullmq(options)
    assert caught.value.field == field
