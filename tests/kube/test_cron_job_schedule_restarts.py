"""A CronJobSchedule over the operator's ends and starts. Every test has its own operator, for its own namespace."""

from __future__ import annotations

import pytest

from support import operator_process
from support.cluster import Cluster
from support.job_queues import CronJobSchedules, JobQueues, job_queue
from support.stored_schedules import BASE, StoredSchedules
from support.waiting import wait_until


@pytest.mark.requirement("X-18")
def test_a_start_mends_the_record_and_runs_nothing_again(
    cluster: Cluster, queues: JobQueues, schedules: CronJobSchedules, redis_url: str, our_types: None
) -> None:
    with (
        operator_process.start(cluster, namespaces=[queues.namespace]) as operator,
        StoredSchedules(redis_url, queues.namespace) as stored,
    ):
        queues.create(job_queue("email", redis_url, worker={"mode": "None"}))
        schedules.create("mine", schedule="0 2 * * *", runOnCreate="OncePerGeneration")
        schedules.wait_reason("mine", "Ready", "True/Scheduled")
        wait_until(lambda: schedules.status("mine").get("runOnCreateGeneration") == 1, "the status to tell of the run")
        before, (run_id,) = stored.record(), stored.ids("wait")
        operator.kill()
        # As if the run had ended and were kept no longer; and somebody else has another idea of the schedule.
        stored.raw.delete(f"{BASE}wait", BASE + run_id)
        stored.raw.hset(stored.key(), "pattern", "0 3 * * *")
        operator.start()
        wait_until(lambda: stored.record() == before, "the pattern as asked for")
        assert stored.ids("wait") == []
        schedules.change("mine", jobTemplate={"data": {"n": 1}})
        wait_until(lambda: len(stored.ids("wait")) == 1, "the run of the new generation")
        assert stored.ids("wait") == [run_id.removesuffix("-1") + "-2"]
