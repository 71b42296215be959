"""What becomes of a CronJobSchedule: its record and jobs in Redis, its status, and what it leaves behind."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterator

import pytest

from support.cluster import Cluster
from support.job_queues import FAST, CronJobSchedules, JobQueues, job_queue
from support.kube_api import KubeApi
from support.operator_process import OperatorProcess
from support.redis_server import RedisServer
from support.stored_schedules import StoredSchedules
from support.waiting import stays, wait_still, wait_until

OBSERVED_ONLY = {"mode": "None"}
ONCE = {"runOnCreate": "OncePerGeneration"}
WEEK_MS = 604_800_000
"""An interval so long that hardly a run of these tests meets the end of one."""


@pytest.fixture
def stored(redis_url: str, namespace: str) -> Iterator[StoredSchedules]:
    with StoredSchedules(redis_url, namespace) as opened:
        yield opened


@pytest.fixture
def email(operator: OperatorProcess, queues: JobQueues, redis_url: str) -> str:
    """A JobQueue whose jobs nobody works; its keys' base."""
    queues.create(job_queue("email", redis_url, worker=OBSERVED_ONLY, scaling=FAST))
    return "bull:email:"


def as_ms(text: str) -> int:
    return round(datetime.datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.requirement("T23")
def test_every_slot_gets_its_job_without_any_worker(
    email: str, schedules: CronJobSchedules, stored: StoredSchedules
) -> None:
    schedules.create("mine", every=1000, jobTemplate={"name": "sweep", "data": {"n": 1}})
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    # Waiting in line, in time: made, and promoted when due.
    (first, *_) = wait_until(stored.slots, "the first slot")
    assert first % 1000 == 0
    wait_until(lambda: len(stored.ids("wait")) >= 4, "four slots")
    made = stored.slots()
    assert made == list(range(made[0], made[-1] + 1, 1000))
    job = stored.raw.hgetall(f"bull:email:repeat:{stored.scheduler_id()}:{made[0]}")
    assert (job["name"], json.loads(job["data"]), job["rjk"]) == ("sweep", {"n": 1}, stored.scheduler_id())


@pytest.mark.requirement("X-05", "X-17")
def test_the_record_and_what_is_said_of_it(
    operator: OperatorProcess, queues: JobQueues, schedules: CronJobSchedules, redis_url: str, stored: StoredSchedules
) -> None:
    defaults = {"attempts": 3, "backoff": {"type": "exponential", "delay": 5000}}
    queues.create(job_queue("email", redis_url, worker=OBSERVED_ONLY, defaultJobOptions=defaults))
    schedules.create(
        "mine", schedule="0 */6 * * *", timeZone="Europe/Berlin", limit=9, jobTemplate={"opts": {"attempts": 5}}
    )
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    found = stored.record()
    options = json.loads(found.pop("opts"))
    assert options == {"attempts": 5, "backoff": {"type": "exponential", "delay": 5000}}
    slot = int(found.pop("next"))
    assert found == {
        "name": "mine", "pattern": "0 */6 * * *", "tz": "Europe/Berlin", "limit": "9", "offset": "0", "ic": "1",
    }  # fmt: skip
    status = schedules.status("mine")
    assert as_ms(status["nextScheduleTime"]) == slot
    assert status["schedulerId"] == stored.scheduler_id()
    assert (status["queueName"], status["timeZone"], status["iterationCount"]) == ("email", "Europe/Berlin", 1)
    assert "lastScheduleTime" not in status
    for kind, reason in (("QueueFound", "Found"), ("ScheduleValid", "Valid")):
        assert schedules.reason("mine", kind) == f"True/{reason}"
    assert schedules.reason("mine", "Suspended") == "False/NotSuspended"
    assert schedules.get("mine")["metadata"]["finalizers"] == ["toril.dev/cleanup"]


def test_a_change_of_the_job_moves_no_slot_and_a_change_of_the_interval_does(
    email: str, schedules: CronJobSchedules, stored: StoredSchedules
) -> None:
    schedules.create("mine", every=WEEK_MS)
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    before = stored.record()
    assert int(before["next"]) % WEEK_MS == 0
    schedules.change("mine", jobTemplate={"data": {"n": 2}})
    wait_until(lambda: stored.record().get("data") == '{"n":2}', "the new data")
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    assert stored.record() == {**before, "data": '{"n":2}'}
    schedules.change("mine", every=2 * WEEK_MS, offset=60_000)
    wait_until(lambda: stored.record()["every"] == str(2 * WEEK_MS), "the new interval")
    assert int(stored.record()["next"]) % (2 * WEEK_MS) == 60_000
    assert stored.ids("delayed") == [f"repeat:{stored.scheduler_id()}:{stored.record()['next']}"]


@pytest.mark.requirement("X-18")
def test_run_on_create_runs_once(email: str, schedules: CronJobSchedules, stored: StoredSchedules) -> None:
    made = schedules.create("cron", schedule="0 2 * * *", **ONCE)
    schedules.wait_reason("cron", "Ready", "True/Scheduled")
    assert stored.ids("wait") == [f"toril-run-{made['metadata']['uid']}-1"]
    assert stored.raw.hget(f"bull:email:{stored.ids('wait')[0]}", "name") == "cron"
    wait_until(lambda: schedules.status("cron").get("runOnCreateGeneration") == 1, "the status to tell")
    # With an interval, the run is its first slot.
    schedules.create("every", every=WEEK_MS, **ONCE)
    schedules.wait_reason("every", "Ready", "True/Scheduled")
    wait_until(lambda: len(stored.slots("every")) > 1, "a slot after the run")
    first, following = stored.slots("every")
    assert following == first + WEEK_MS
    assert first > stored.raw.time()[0] * 1000 - 120_000
    # With an offset the slots are where it says, and the run is a job of its own.
    made = schedules.create("offset", every=WEEK_MS, offset=1, **ONCE)
    schedules.wait_reason("offset", "Ready", "True/Scheduled")
    assert f"toril-run-{made['metadata']['uid']}-1" in stored.ids("wait")
    assert [slot % WEEK_MS for slot in stored.slots("offset")] == [1]


@pytest.mark.requirement("Z-31")
def test_suspend_stops_and_resuming_goes_on_counting(
    email: str, schedules: CronJobSchedules, stored: StoredSchedules
) -> None:
    schedules.create("mine", every=4000, limit=1000)
    # Right after a slot: the next one is far enough for nothing to happen in between.
    wait_until(lambda: stored.ids("wait") and int(stored.record().get("ic", 0)) >= 2, "the first slot")
    schedules.change("mine", suspend=True)
    schedules.wait_reason("mine", "Suspended", "True/SuspendedBySpec")
    schedules.wait_reason("mine", "Ready", "True/SuspendedBySpec")
    assert stored.record() == {}
    assert stored.ids("delayed") == []
    count = wait_until(lambda: schedules.status("mine").get("iterationCount"), "a count in the status")
    assert count is not None
    made = stored.slots()
    assert count == len(made)
    stays(lambda: stored.slots() == made, "no slot while it is suspended", seconds=5)
    schedules.change("mine", suspend=False)
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    wait_until(lambda: int(stored.record()["ic"]) > count, "the count to go on")
    slot = stored.record()["next"]
    options = json.loads(stored.raw.hget(f"bull:email:repeat:{stored.scheduler_id()}:{slot}", "opts") or "{}")
    assert options["repeat"]["count"] > count


def test_limit_and_end(email: str, schedules: CronJobSchedules, stored: StoredSchedules) -> None:
    schedules.create("mine", every=1000, limit=2)
    schedules.wait_reason("mine", "Ready", "True/Ended")
    assert len(stored.slots()) == 2
    status = schedules.status("mine")
    assert "nextScheduleTime" not in status
    assert as_ms(status["lastScheduleTime"]) == stored.slots()[-1]
    schedules.create("over", every=1000, endDate="2020-01-01T00:00:00Z")
    schedules.wait_reason("over", "Ready", "True/Ended")
    assert stored.record("over") == {}


def test_status_is_quiet_between_slots(operator: OperatorProcess, email: str, schedules: CronJobSchedules) -> None:
    schedules.create("mine", schedule="0 2 * * *")
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    wait_still(lambda: schedules.get("mine")["metadata"]["resourceVersion"], "nothing is written", seconds=2)


def test_the_last_slot_is_told(email: str, schedules: CronJobSchedules, stored: StoredSchedules) -> None:
    schedules.create("mine", every=2000)
    last = wait_until(lambda: schedules.status("mine").get("lastScheduleTime"), "a last slot")
    assert last is not None
    assert as_ms(last) in stored.slots()


@pytest.mark.requirement("T77")
def test_what_only_the_operator_can_check(email: str, schedules: CronJobSchedules, stored: StoredSchedules) -> None:
    schedules.create("cron", schedule="61 * * * *")
    schedules.create("zone", schedule="0 * * * *", timeZone="Europe/Atlantis")
    schedules.create("data", every=1000, jobTemplate={"data": {"n": 2**53 + 2}})
    schedules.create("lost", "nowhere", every=1000)
    for name, reason in (("cron", "BadCron"), ("zone", "UnknownTimeZone")):
        schedules.wait_reason(name, "ScheduleValid", f"False/{reason}")
        schedules.wait_reason(name, "Ready", "False/InvalidSchedule")
    assert schedules.condition("cron", "Ready")["message"].startswith("spec.schedule: minute '61'")
    assert schedules.condition("zone", "Ready")["message"].startswith("spec.timeZone: 'Europe/Atlantis'")
    schedules.wait_reason("data", "Ready", "False/InvalidSpec")
    assert schedules.condition("data", "Ready")["message"].startswith("spec.jobTemplate.data")
    schedules.wait_reason("lost", "Ready", "False/QueueNotFound")
    schedules.wait_reason("lost", "QueueFound", "False/QueueNotFound")
    assert stored.raw.zcard("bull:email:repeat") == 0
    # A schedule that becomes senseless makes no more jobs.
    schedules.change("cron", schedule="1 * * * *")
    schedules.wait_reason("cron", "Ready", "True/Scheduled")
    schedules.change("cron", schedule="0 0 30 2 *")
    schedules.wait_reason("cron", "Ready", "False/InvalidSchedule")
    wait_until(lambda: stored.raw.zcard("bull:email:repeat") == 0, "its record to go")


def test_two_with_one_scheduler(email: str, schedules: CronJobSchedules, stored: StoredSchedules) -> None:
    schedules.create("first", every=WEEK_MS, schedulerId="shared")
    schedules.wait_reason("first", "Ready", "True/Scheduled")
    # The older one wins, and creation times are whole seconds.
    created_ms = as_ms(schedules.get("first")["metadata"]["creationTimestamp"])
    wait_until(lambda: time.time() * 1000 > created_ms + 1000, "the next second")
    schedules.create("second", every=2 * WEEK_MS, schedulerId="shared")
    schedules.wait_reason("second", "Ready", "False/DuplicateTarget")
    assert stored.raw.hget("bull:email:repeat:shared", "every") == str(WEEK_MS)
    # The duplicate takes nothing of the older one's along, and takes its place when that one goes.
    schedules.create("third", every=3 * WEEK_MS, schedulerId="shared")
    schedules.wait_reason("third", "Ready", "False/DuplicateTarget")
    schedules.delete("third")
    wait_until(lambda: schedules.is_gone("third"), "the duplicate to go")
    assert stored.raw.hget("bull:email:repeat:shared", "every") == str(WEEK_MS)
    schedules.delete("first")
    schedules.wait_reason("second", "Ready", "True/Scheduled")
    assert stored.raw.hget("bull:email:repeat:shared", "every") == str(2 * WEEK_MS)


def test_deletion_removes_the_record_and_leaves_jobs_alone(
    email: str, schedules: CronJobSchedules, stored: StoredSchedules
) -> None:
    schedules.create("mine", every=WEEK_MS, **ONCE)
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    run = stored.slots()[0]
    schedules.delete("mine")
    wait_until(lambda: schedules.is_gone("mine"), "the schedule to go")
    assert stored.record() == {}
    assert stored.slots() == [run]


def test_deletion_after_its_queue(
    email: str, queues: JobQueues, schedules: CronJobSchedules, stored: StoredSchedules
) -> None:
    """As `kubectl delete -f` does it: the queue is gone, the record's place is remembered."""
    schedules.create("mine", every=WEEK_MS)
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    queues.api.delete(queues.path("email"))
    schedules.wait_reason("mine", "Ready", "False/QueueNotFound")
    schedules.delete("mine")
    wait_until(lambda: schedules.is_gone("mine"), "the schedule to go")
    assert stored.record() == {}


def test_deletion_ends_without_redis(operator: OperatorProcess, queues: JobQueues, schedules: CronJobSchedules) -> None:
    server = RedisServer()
    try:
        queues.create(job_queue("email", server.url, worker=OBSERVED_ONLY))
        schedules.create("mine", every=WEEK_MS)
        schedules.wait_reason("mine", "Ready", "True/Scheduled")
    finally:
        server.remove()
    schedules.wait_reason("mine", "Ready", "False/RedisUnreachable")
    schedules.delete("mine")
    # Redis may come back: it is waited for, as long as the JobQueue says where it would be.
    schedules.wait_reason("mine", "Ready", "False/Terminating")
    stays(lambda: not schedules.is_gone("mine"), "it is waited for", seconds=1)
    queues.api.delete(queues.path("email"))
    wait_until(lambda: schedules.is_gone("mine"), "the schedule to go")
    path = f"/apis/events.k8s.io/v1/namespaces/{queues.namespace}/events"

    def told() -> list[str]:
        return [event["note"] for event in queues.api.items(path) if event["reason"] == "CleanupAbandoned"]

    notes = wait_until(told, "the event")
    assert notes is not None
    assert notes[0].startswith("its job scheduler may still be in Redis: Redis 127.0.0.1:")


@pytest.mark.requirement("T93")
def test_a_namespace_goes_with_its_schedules(
    operator: OperatorProcess, cluster: Cluster, api: KubeApi, redis_url: str
) -> None:
    queues = JobQueues(api, cluster.create_namespace())
    schedules = CronJobSchedules(queues)
    queues.create(job_queue("email", redis_url, worker=OBSERVED_ONLY))
    schedules.create("mine", every=WEEK_MS)
    schedules.wait_reason("mine", "Ready", "True/Scheduled")
    path = f"/api/v1/namespaces/{queues.namespace}"
    api.delete(path)
    wait_until(lambda: api.get_or_none(path) is None, "the namespace to go", timeout_seconds=90)
    with StoredSchedules(redis_url, queues.namespace) as stored:
        assert stored.record() == {}
