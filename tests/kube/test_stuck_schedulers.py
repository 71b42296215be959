"""Series in a queue that nobody can carry on: the JobQueue and the operator's metrics tell them."""

from __future__ import annotations

from typing import Any

import redis

from support.job_queues import JobQueues, job_queue
from support.operator_process import OperatorProcess
from support.waiting import wait_until

SERIES = "bull:email:repeat"


def test_a_series_that_cannot_be_carried_on_is_told_until_it_is_gone(
    operator: OperatorProcess, queues: JobQueues, redis_url: str
) -> None:
    raw: Any = redis.Redis.from_url(redis_url, decode_responses=True)
    queues.create(job_queue("email", redis_url, worker={"mode": "None"}))
    queues.wait_reason("email", "SchedulersAdvancing", "True/Advancing")
    stored = {"name": "n", "pattern": "FREQ=DAILY", "ic": "1"}
    raw.hset(f"{SERIES}:odd", mapping=stored)
    raw.zadd(SERIES, {"odd": 1000})
    queues.wait_reason("email", "SchedulersAdvancing", "False/SeriesStuck")
    assert queues.condition("email", "SchedulersAdvancing")["message"].startswith("odd: repeat.pattern")
    labels = {"jobqueue": "email", "namespace": queues.namespace}
    wait_until(lambda: operator.metric("toril_job_schedulers_stuck", **labels) == 1, "the metric")
    # It is left as it is.
    assert (raw.hgetall(f"{SERIES}:odd"), raw.zscore(SERIES, "odd")) == (stored, 1000)
    raw.zrem(SERIES, "odd")
    queues.wait_reason("email", "SchedulersAdvancing", "True/Advancing")
    raw.close()
