"""What is done about a CronJobSchedule, and what its status says, by what was seen of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.operator_objects import manifest as job_queue_manifest
from toril.jobs.scheduler import CurrentJob, SchedulerRecord
from toril.specs.cron_job_schedule import parse_cron_job_schedule
from toril.specs.jobqueue import parse_job_queue
from toril_operator.conditions import Reason, Status
from toril_operator.cronjobschedule import plan as planning
from toril_operator.cronjobschedule.plan import ABANDON_MS, Observed, Plan, make_plan
from toril_operator.cronjobschedule.status import Outcome, build_status
from toril_operator.object_cache import Key

NOW_MS = 1_893_456_030_000
"""2030-01-01, 00:00:30."""
HOUR_MS = 3_600_000
NOW = "2030-01-01T00:00:30Z"
ONCE = {"runOnCreate": "OncePerGeneration"}


def observe(*, spec: dict[str, Any] | None = None, **known: Any) -> Observed:
    """Everything fine and nothing in Redis; `known` replaces, `problem` is of a spec that cannot be read."""
    manifest = {
        "apiVersion": "toril.dev/v1alpha1",
        "kind": "CronJobSchedule",
        "metadata": {"name": "mine", "namespace": "team"},
        "spec": {"queueRef": {"name": "email"}, **(spec or {"every": HOUR_MS})},
    }
    observed = Observed(
        key=Key("team", "mine"),
        uid="u1",
        generation=1,
        spec=parse_cron_job_schedule(manifest),
        queue=parse_job_queue(job_queue_manifest()),
        now_ms=NOW_MS,
    )
    if (problem := known.pop("problem", None)) is not None:
        observed = replace(observed, spec=None, spec_problem=problem)
    return replace(observed, **known)


def stored(observed: Observed, slot_ms: int, count: int = 1, **fields: str) -> Observed:
    """The same with a record as our own upsert leaves it."""
    assert observed.spec is not None
    spec = observed.spec
    rhythm = {"pattern": spec.pattern, "tz": spec.time_zone} if spec.pattern else {"every": str(spec.every_ms)}
    known = {"name": spec.job_name, "ic": str(count), "offset": "0", **rhythm, **fields}
    if spec.limit is not None:
        known["limit"] = str(spec.limit)
    repeat = {"count": count, "every": spec.every_ms, "pattern": spec.pattern, "limit": spec.limit}
    opts = {"repeat": {name: value for name, value in repeat.items() if value is not None}}
    job = CurrentJob(has_started=False, opts=opts, name=spec.job_name, data_json="{}")
    fields_there = {name: value for name, value in known.items() if value is not None}
    return replace(observed, record=SchedulerRecord("team.mine", slot_ms, fields_there, job))


def does_nothing(plan: Plan) -> bool:
    return not (plan.protect or plan.remove or plan.upsert or plan.advance or plan.run or plan.release)


def ready(observed: Observed, outcome: Outcome | None = None) -> tuple[str, str]:
    status = status_of(observed, outcome)
    condition = next(each for each in status["conditions"] if each["type"] == "Ready")
    return condition["status"], condition["reason"]


def status_of(observed: Observed, outcome: Outcome | None = None) -> dict[str, Any]:
    plan = make_plan(observed)
    return build_status(observed, plan, outcome or Outcome(record=observed.record), NOW)


@pytest.mark.parametrize(
    ("spec", "first_ms"),
    [
        ({"schedule": "0 2 * * *"}, None),
        ({"every": HOUR_MS}, NOW_MS - 30_000 + HOUR_MS),
        ({"every": HOUR_MS, "offset": 60_000}, NOW_MS + 30_000),
        ({"every": HOUR_MS, "offset": 0, **ONCE}, NOW_MS - 30_000 + HOUR_MS),
        ({"every": HOUR_MS, **ONCE}, NOW_MS),
        ({"every": HOUR_MS, "startDate": "2030-01-01T12:34:56Z"}, NOW_MS - 30_000 + 45_296_000),
        ({"every": HOUR_MS, "startDate": "2030-01-01T12:00:00Z", "offset": 0}, NOW_MS - 30_000 + 12 * HOUR_MS),
        ({"every": HOUR_MS, "startDate": "2029-01-01T00:00:00Z"}, NOW_MS - 30_000 + HOUR_MS),
    ],
)
def test_where_a_new_schedule_begins(spec: dict[str, Any], first_ms: int | None) -> None:
    plan = make_plan(observe(spec=spec))
    assert plan.upsert is not None
    assert (plan.upsert.first_ms, plan.upsert.made) == (first_ms, 0)


def test_what_is_as_asked_for_is_left_alone() -> None:
    for spec in ({"every": HOUR_MS}, {"schedule": "0 2 * * *"}, {"every": HOUR_MS, **ONCE}):
        observed = stored(observe(spec=spec, status={"runOnCreateGeneration": 1}), NOW_MS + 1)
        assert does_nothing(make_plan(observed))
        assert ready(observed) == ("True", "Scheduled")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "other"},
        {"every": "1000"},
        {"data": '{"n":1}'},
        {"opts": '{"attempts":3}'},
        {"tz": "x"},
        {"limit": "3"},
    ],
)
def test_what_differs_is_written_anew(fields: dict[str, str]) -> None:
    assert make_plan(stored(observe(), NOW_MS + 1, 1, **fields)).upsert is not None


def test_a_slot_that_has_come_is_advanced() -> None:
    plan = make_plan(stored(observe(), NOW_MS))
    assert plan.advance
    assert plan.upsert is None


def test_a_change_of_the_template_keeps_the_slot_and_a_change_of_the_rhythm_does_not() -> None:
    for fields, keeps in (({"name": "other"}, True), ({"every": "1000"}, False)):
        plan = make_plan(stored(observe(), NOW_MS + 5, 7, **fields))
        assert plan.upsert is not None
        assert (plan.upsert.first_ms is None) is keeps
        # The armed slot is made anew, so that it does not count twice.
        assert plan.upsert.made == 6
    moved = make_plan(stored(observe(spec={"every": HOUR_MS, "offset": 5}), NOW_MS + 6, 1, offset="6"))
    assert moved.upsert is not None
    assert moved.upsert.first_ms == NOW_MS - 30_000 + HOUR_MS + 5


@pytest.mark.requirement("X-18")
def test_the_run_of_run_on_create() -> None:
    cron = observe(spec={"schedule": "0 2 * * *", **ONCE})
    plan = make_plan(cron)
    assert plan.run is not None
    assert plan.run.options.job_id == "toril-run-u1-1"
    assert plan.ran_generation == 1
    assert make_plan(replace(cron, status={"runOnCreateGeneration": 1})).run is None
    assert make_plan(replace(cron, generation=2, status={"runOnCreateGeneration": 1})).run is not None
    # The first slot of an interval is the run; a later generation that keeps the slots has a run of its own.
    every = observe(spec={"every": HOUR_MS, **ONCE})
    assert make_plan(every).run is None
    assert make_plan(every).ran_generation == 1
    later = make_plan(
        stored(replace(every, generation=2, status={"runOnCreateGeneration": 1}), NOW_MS + 1, 1, name="old")
    )
    assert later.run is not None
    assert later.run.options.job_id == "toril-run-u1-2"


def test_a_run_that_could_not_be_added_is_not_told() -> None:
    observed = observe(spec={"schedule": "0 2 * * *", **ONCE})
    outcome = Outcome(problem="Redis is away", has_run=False)
    assert "runOnCreateGeneration" not in status_of(observed, outcome)
    assert ready(observed, outcome) == ("False", "RedisUnreachable")
    told = status_of(observed, Outcome(problem="Redis is away", has_run=True))
    assert told["runOnCreateGeneration"] == 1


def test_an_interval_that_began_with_its_run_has_no_other_although_the_status_was_not_written() -> None:
    observed = stored(observe(spec={"every": HOUR_MS, **ONCE}), NOW_MS + 1)
    plan = make_plan(observed)
    assert does_nothing(plan)
    assert plan.ran_generation == 1
    assert make_plan(replace(observed, generation=2)).run is not None


def test_suspending_and_resuming() -> None:
    suspended = observe(spec={"every": HOUR_MS, "suspend": True})
    armed = stored(suspended, NOW_MS + 1, 7)
    assert make_plan(armed).remove
    status = status_of(armed, Outcome())
    # The armed one was not run.
    assert status["iterationCount"] == 6
    assert "nextScheduleTime" not in status
    later = replace(suspended, status=status)
    assert does_nothing(make_plan(later))
    assert status_of(later)["iterationCount"] == 6
    assert ready(later) == ("True", "SuspendedBySpec")
    resumed = make_plan(observe(status=status))
    assert resumed.upsert is not None
    assert resumed.upsert.made == 6


def test_the_limit_counts_over_a_pause() -> None:
    ended = observe(spec={"every": HOUR_MS, "limit": 6}, status={"iterationCount": 6})
    assert does_nothing(make_plan(ended))
    assert ready(ended) == ("True", "Ended")


def test_the_end_is_told_once_the_last_slot_has_come() -> None:
    last = stored(observe(spec={"every": HOUR_MS, "limit": 6}), NOW_MS + 1, 6)
    assert ready(last) == ("True", "Scheduled")
    assert ready(replace(last, now_ms=NOW_MS + 1)) == ("True", "Ended")


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"problem": "spec.every: is wrong"}, Reason.INVALID_SPEC),
        ({"duplicate_of": "older"}, Reason.DUPLICATE_TARGET),
        ({"is_queue_found": False}, Reason.QUEUE_NOT_FOUND),
        ({"unreadable": "Redis is away", "now_ms": 0}, Reason.REDIS_UNREACHABLE),
    ],
)
def test_what_keeps_it_from_being_carried_out(known: dict[str, Any], reason: Reason) -> None:
    before = {"nextScheduleTime": NOW, "lastScheduleTime": NOW, "iterationCount": 3}
    observed = observe(status=before, **known)
    plan = make_plan(observed)
    assert does_nothing(plan)
    assert plan.blocked is not None
    assert (plan.blocked.status, plan.blocked.reason) == (Status.FALSE, reason)
    if observed.spec is not None and observed.now_ms == 0:
        # What Redis told last stays.
        assert before.items() <= status_of(observed).items()


def test_a_schedule_that_has_become_senseless_is_taken_out() -> None:
    observed = stored(observe(spec={"schedule": "0 2 * * *"}), NOW_MS + 1)
    wrong = replace(observed, spec=observe(spec={"schedule": "0 25 * * *"}).spec)
    plan = make_plan(wrong)
    assert plan.remove
    assert (plan.valid.status, plan.valid.reason) == (Status.FALSE, Reason.BAD_CRON)


@pytest.mark.parametrize(
    ("known", "removes", "releases"),
    [
        ({}, True, False),
        ({"deleted_for_ms": ABANDON_MS}, True, True),
        ({"is_queue_found": False}, True, True),
        ({"duplicate_of": "older"}, False, True),
        ({"problem": "spec.every: is wrong"}, False, True),
        ({"has_finalizer": False}, False, False),
    ],
)
def test_deletion(known: dict[str, Any], removes: bool, releases: bool) -> None:
    plan = make_plan(observe(**{"deleted_for_ms": 0, **known}))
    assert (plan.remove, plan.release) == (removes, releases)
    assert plan.blocked is not None
    assert plan.blocked.reason is Reason.TERMINATING


def test_the_finalizer_comes_before_the_record() -> None:
    assert make_plan(observe(has_finalizer=False)).protect
    assert not make_plan(observe(has_finalizer=False, is_queue_found=False)).protect


def test_last_and_next_slot() -> None:
    armed = stored(observe(), NOW_MS + 500)
    status = status_of(armed)
    assert status["nextScheduleTime"] == "2030-01-01T00:00:30.500Z"
    assert "lastScheduleTime" not in status
    later = replace(armed, now_ms=NOW_MS + HOUR_MS, status=status)
    advanced = stored(later, NOW_MS + 500 + HOUR_MS, 2).record
    status = status_of(later, Outcome(record=advanced))
    assert status["lastScheduleTime"] == "2030-01-01T00:00:30.500Z"
    assert status["nextScheduleTime"] == "2030-01-01T01:00:30.500Z"
    assert status["iterationCount"] == 2
    assert planning.made_by(replace(later, record=advanced)) == 1
