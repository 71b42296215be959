"""Job options: what is stored, and what is refused."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from toril import errors
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions, attempts_in, count_in, public


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


# ---- numbers as large as JavaScript has them


@pytest.mark.parametrize("name", ["attempts", "keepLogs", "stackTraceLimit", "sizeLimit", "torilMaxDelay"])
def test_the_largest_number_means_always_and_is_stored_as_javascript_writes_it(name: str) -> None:
    options = JobOptions.from_bullmq({name: sys.float_info.max})
    assert '":1.7976931348623157e+308' in options.wire_json
    assert JobOptions.from_bullmq({name: 2**53}).wire_json.count("9007199254740992") == 1
    with pytest.raises(errors.InvalidOptionError):
        JobOptions.from_bullmq({name: 10**400})


@pytest.mark.parametrize(
    ("stored", "attempts"),
    [
        (None, 0), (0, 0), (-3, 0), (3, 3), (2.5, 3), ("4", 4), ("many", 0), ([5], 0), (float("nan"), 0),
        (sys.float_info.max, sys.float_info.max), (float("inf"), sys.float_info.max), (True, 1),
    ],
)  # fmt: skip
def test_attempts_count_as_javascript_compares_them(stored: Any, attempts: int) -> None:
    assert attempts_in({"attempts": stored}) == attempts


@pytest.mark.parametrize(
    ("stored", "count"), [(None, None), (True, None), ("5", None), (-1, None), (7.9, 7), (sys.float_info.max, 2**53)]
)
def test_counts_that_make_no_sense_are_none(stored: Any, count: int | None) -> None:
    assert count_in(stored) == count


# ---- telemetry


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"telemetry": {"metadata": "{}"}}, {"tm": "{}"}),
        ({"telemetry": {"metadata": "00-ab-cd-01", "omitContext": False}}, {"tm": "00-ab-cd-01", "omc": False}),
        ({"telemetry": {"omitContext": True}}, {"omc": True}),
        ({"telemetry": {"metadata": None}}, {}),
        ({"telemetry": {}}, {}),
        ({"tm": "{}"}, {"tm": "{}"}),
        ({"tm": 5, "omc": "yes"}, {}),
        ({"tm": "a", "telemetry": {"metadata": "b"}}, {"tm": "b"}),
    ],
)
def test_telemetry_is_stored_as_bullmq_stores_it(given: dict[str, Any], stored: dict[str, Any]) -> None:
    options = JobOptions.from_bullmq(given)
    assert options.wire == {**stored, "attempts": 0}
    found = public(options.wire).get("telemetry", {})
    assert (found.get("metadata"), found.get("omitContext")) == (stored.get("tm"), stored.get("omc"))


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("{}", "opts.telemetry"),
        ({"metadata": {}}, "opts.telemetry.metadata"),
        ({"metadata": "\ud800"}, "opts.telemetry.metadata"),
        ({"omitContext": 1}, "opts.telemetry.omitContext"),
        ({"meta": "x"}, "opts.telemetry.meta"),
    ],
)
def test_telemetry_of_another_form_is_refused(value: Any, field: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        JobOptions.from_bullmq({"telemetry": value})
    assert caught.value.field == field


def test_stored_telemetry_that_makes_no_sense_reads_as_none() -> None:
    assert public({"tm": {"a": 1}, "omc": 1, "kl": 3}) == {"keepLogs": 3}


def test_a_job_in_a_trace_keeps_its_own_and_may_omit_it() -> None:
    assert JobOptions.from_bullmq({}).in_trace("up").wire["tm"] == "up"
    assert JobOptions.from_bullmq({"tm": "own"}).in_trace("up").wire["tm"] == "own"
    assert "tm" not in JobOptions.from_bullmq({"telemetry": {"omitContext": True}}).in_trace("up").wire


# ---- what people bring along


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("repeat", "queue.schedulers.upsert(id, cron="),
        ("cron", "queue.schedulers.upsert(id, cron="),
        ("keep_completed", "is written removeOnComplete here"),
        ("job_id", "is written jobId here"),
        ("kl", "is how BullMQ stores keepLogs"),
        ("priorty", "is unknown; known options are attempts, backoff"),
    ],
)
def test_an_unknown_option_says_what_to_write_instead(name: str, words: str) -> None:
    with pytest.raises(errors.InvalidOptionError) as caught:
        JobOptions.from_bullmq({name: 1})
    assert caught.value.field == f"opts.{name}"
    assert words in caught.value.problem
