"""What the API server refuses of a CronJobSchedule before the operator sees it: always with the field's path."""

from __future__ import annotations

from typing import Any

import pytest

from support.job_queues import CronJobSchedules

EVERY: dict[str, Any] = {"every": 5000}
DAILY = {"schedule": "0 2 * * *"}
START = "2030-01-01T00:00:00Z"
FORM = "spec.schedule: Invalid value"


def refusal(schedules: CronJobSchedules, manifest: dict[str, Any], *, name: str = "") -> str:
    """The server's message; the object is not stored."""
    method = "PATCH" if name else "POST"
    kind = "application/merge-patch+json" if name else "application/json"
    status, answer = schedules.api.call(method, schedules.path(name) + "?fieldValidation=Strict", manifest, kind)
    assert status in (400, 422), answer
    return str(answer["message"])


@pytest.mark.requirement("T76")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec: Invalid value: exactly one of schedule and every must be given"),
        ({**EVERY, **DAILY}, "spec: Invalid value: exactly one of schedule and every must be given"),
        ({**DAILY, "offset": 1}, "spec.offset: Invalid value: goes with every"),
        ({**EVERY, "offset": 5000}, "spec.offset: Invalid value: must be below every"),
        ({"every": 999}, "spec.every: Invalid value"),
        ({**EVERY, "schedulerId": "a:b"}, "spec.schedulerId: Invalid value"),
        ({**EVERY, "startDate": START, "endDate": START}, "spec.endDate: Invalid value: must be after startDate"),
        ({**EVERY, "startDate": "tomorrow"}, "spec.startDate: Invalid value"),
        ({**EVERY, "startDate": START, "runOnCreate": "OncePerGeneration"}, "spec.runOnCreate: Invalid value"),
        ({"schedule": "* * * *"}, f"{FORM}: must have five fields, or six with seconds first"),
        ({"schedule": "0 0 0 * * * 2030"}, FORM),
        ({"schedule": "0 2 * * *; reboot"}, FORM),
        ({**DAILY, "timeZone": "Europe / Berlin"}, "spec.timeZone: Invalid value"),
        ({**DAILY, "runOnCreate": "Always"}, "spec.runOnCreate: Unsupported value"),
        ({**DAILY, "limit": 0}, "spec.limit: Invalid value"),
        ({**DAILY, "concurrencyPolicy": "Forbid"}, 'unknown field "spec.concurrencyPolicy"'),
        ({**DAILY, "jobTemplate": {"opts": {"delay": 5}}}, 'unknown field "spec.jobTemplate.opts.delay"'),
        ({**DAILY, "jobTemplate": {"data": [1]}}, "spec.jobTemplate.data: Invalid value"),
    ],
)
def test_a_wrong_field(schedules: CronJobSchedules, spec: dict[str, Any], words: str) -> None:
    message = refusal(schedules, schedules.manifest("wrong", **spec))
    assert words in message.replace('"object": ', "").replace(f'"{spec.get("schedule")}": ', "")


@pytest.mark.requirement("T76")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedulerId": "other"}, "spec.schedulerId: Invalid value"),
        ({"schedulerId": None}, "spec.schedulerId: Invalid value"),
        ({"queueRef": {"name": "other"}}, "spec.queueRef.name: Invalid value"),
    ],
)
def test_what_cannot_be_changed(schedules: CronJobSchedules, change: dict[str, Any], words: str) -> None:
    schedules.create("mine", schedulerId="mine", **EVERY)
    assert words in refusal(schedules, {"spec": change}, name="mine")


def test_data_is_kept_as_it_is(schedules: CronJobSchedules) -> None:
    data = {"batchSize": 50, "nested": {"list": [1, {"a": None}], "text": "ü"}}
    schedules.create("mine", jobTemplate={"data": data}, **EVERY)
    assert schedules.get("mine")["spec"]["jobTemplate"] == {"data": data}
