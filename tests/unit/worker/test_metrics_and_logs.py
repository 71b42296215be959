"""What a worker counts and says."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from support import log_setup
from support.taken import taken_job
from toril import clock, errors
from toril.engine.worker import Finish
from toril.errors import RedisReason
from toril.tasks.context import current_run
from toril.telemetry.logs import TextFormatter
from toril.worker import health, logs, metrics
from toril.worker.attempt import Attempt
from toril.worker.heartbeat import STALE_MS, Heartbeat
from toril.worker.metrics import MAX_JOB_NAMES, Metrics
from toril.worker.outcomes import RuleBook
from toril.worker.reporter import LINES_PER_SECOND, Reporter


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.ms = 1_000_000

    def monotonic_ms(self) -> int:
        return self.ms


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(clock, "monotonic_ms", found.monotonic_ms)
    return found


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def make_run(loop: asyncio.AbstractEventLoop) -> Any:
    def make(
        kind: str = "completed", *, seconds: float = 0.0, error: BaseException | None = None, **job: Any
    ) -> Attempt:
        taken = taken_job(**job)
        run = Attempt(taken, None, loop, RuleBook().of(taken))  # type: ignore[arg-type]  # nothing is said
        run.seconds, run.error = seconds, error
        if kind == "completed":
            run.finish = Finish.completed(taken, "null")
        elif kind == "failed":
            run.finish = Finish.failed(taken, str(error), "[]", attempts=run.rules.attempts)
        elif kind == "retry":
            run.finish = Finish.retry(taken, str(error), "[]", 700)
        else:
            run.finish = Finish.requeue(taken)
        return run

    return make


def values(found: Metrics) -> dict[str, float]:
    lines = found.exposition().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line.startswith("toril_"))
    }


@pytest.fixture
def counts() -> Metrics:
    return Metrics({"namespace": "team", "jobqueue": "email"}, lambda: {"busy": 2, "idle": 3, "draining": 0})


LABELS = 'job_name="send",jobqueue="email",namespace="team"'


def test_ends_are_counted_by_name_and_outcome(counts: Metrics, make_run: Any) -> None:
    counts.finished([
        make_run(seconds=0.2),
        make_run(seconds=0.2, ats=2),
        make_run("retry", seconds=3, opts={"attempts": 3}),
        make_run("failed", opts={"attempts": 3}, atm=2, ats=3),
        make_run("failed", opts={"attempts": 3}),
        make_run("requeue"),
    ])  # fmt: skip
    found = values(counts)
    assert found["toril_attempts_total{" + LABELS + "}"] == 5
    for outcome, jobs in (("completed", 2), ("exhausted", 1), ("failed", 1)):
        assert found[f'toril_jobs_finished_total{{{LABELS},outcome="{outcome}"}}'] == jobs
    labels = LABELS + ',outcome="completed"'
    up_to = [found[f"toril_job_run_seconds_bucket{{{_with_bound(labels, bound)}}}"] for bound in ("0.1", "0.5", "+Inf")]
    assert up_to == [0, 2, 2]
    assert found[f"toril_job_run_seconds_count{{{labels}}}"] == 2
    assert found[f"toril_job_run_seconds_sum{{{labels}}}"] == pytest.approx(0.4)


def _with_bound(labels: str, bound: str) -> str:
    """Labels are sorted by name."""
    return labels.replace(",namespace=", f',le="{bound}",namespace=')


def test_waiting_counts_from_when_a_job_could_run_and_only_once(counts: Metrics, make_run: Any) -> None:
    # Added at 1.0 s, to wait 2 s; started at 3.5 s.
    counts.finished([make_run(opts={"delay": 2000}), make_run(ats=2)])
    found = values(counts)
    assert found["toril_job_wait_seconds_count{" + LABELS + "}"] == 1
    assert found["toril_job_wait_seconds_sum{" + LABELS + "}"] == 0.5
    assert metrics.wait_seconds(make_run(opts={"delay": 9999})) == 0


def test_job_names_are_limited(counts: Metrics, make_run: Any) -> None:
    counts.finished([make_run(name=f"n{number}") for number in range(MAX_JOB_NAMES + 7)])
    found = values(counts)
    attempts = {name: value for name, value in found.items() if name.startswith("toril_attempts_total")}
    assert len(attempts) == MAX_JOB_NAMES + 1
    assert attempts['toril_attempts_total{job_name="_other",jobqueue="email",namespace="team"}'] == 7


def test_the_rest_is_there(counts: Metrics) -> None:
    counts.record_stalled("pod_lost", 3)
    counts.record_interrupted("drain_timeout", 1)
    found = values(counts)
    common = 'jobqueue="email",namespace="team"'
    assert found[f'toril_stalled_total{{{common},reason="pod_lost"}}'] == 3
    assert found[f'toril_interrupted_total{{{common},reason="drain_timeout"}}'] == 1
    assert found[f'toril_worker_slots{{{common},state="idle"}}'] == 3
    assert b"process_resident_memory_bytes" in counts.exposition()


# ---- the log


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with log_setup.kept():
        logs.configure(stream, queue="email", worker="w-1")
        yield stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_successes_are_sampled_with_exact_counts(counts: Metrics, make_run: Any, time: Clock, log: io.StringIO) -> None:
    reporter = Reporter(counts, "redis:6379/0")
    reporter.finished([make_run() for _ in range(1000)])
    time.ms += 1000
    reporter.finished([make_run() for _ in range(15)])
    reporter.close()
    found = lines(log)
    assert len(found) == 2 * LINES_PER_SECOND + 1
    suppressed = [line["suppressed"] for line in found if "suppressed" in line]
    assert suppressed == [1000 - LINES_PER_SECOND, 5]
    assert sum(suppressed) + 2 * LINES_PER_SECOND == 1015


def test_every_failure_is_told(counts: Metrics, make_run: Any, time: Clock, log: io.StringIO) -> None:
    reporter = Reporter(counts, "redis:6379/0")
    reporter.finished([make_run("retry", error=ValueError("again")) for _ in range(50)])
    reporter.finished([make_run("failed", error=ValueError("for good"), seconds=0.0123, name="x", job_id="7")])
    found = lines(log)
    assert len(found) == 51
    assert found[0] | {"event": "attempt failed", "outcome": "retry", "retry_in_ms": 700} == found[0]
    expected = {
        "level": "warning", "event": "job failed", "outcome": "failed", "error": "for good", "error_type": "ValueError",
        "job_id": "7", "job_name": "x", "attempt": 1, "duration_ms": 12.3, "queue": "email", "worker": "w-1",
    }  # fmt: skip
    assert found[-1] | expected == found[-1]


def test_an_outage_is_told_at_its_begin_and_end(counts: Metrics, time: Clock, log: io.StringIO) -> None:
    reporter = Reporter(counts, "redis:6379/0")
    reporter.redis_works()
    problem = errors.RedisUnavailableError(RedisReason.CONNECTION_REFUSED, "cannot connect")
    for _ in range(20):
        reporter.redis_failed(problem)
        time.ms += 1000
    reporter.redis_works()
    reporter.redis_works()
    assert [line["event"] for line in lines(log)] == [
        "connected to Redis redis:6379/0", "Redis fails: cannot connect", "Redis works again after 20.0 s",
    ]  # fmt: skip


def test_lines_written_in_a_job_name_it(make_run: Any, log: io.StringIO) -> None:
    token = current_run.set(make_run(job_id="9", atm=1))
    logging.getLogger("app").error("broken %s", "pipe", exc_info=ValueError("why"))
    current_run.reset(token)
    (line,) = lines(log)
    assert (line["event"], line["level"], line["logger"]) == ("broken pipe", "error", "app")
    assert (line["job_id"], line["job_name"], line["attempt"]) == ("9", "send", 2)
    assert line["error"].endswith("ValueError: why")
    assert line["ts"].endswith("Z")


def test_people_get_lines_that_cannot_steer_their_terminal() -> None:
    record = logging.LogRecord("app", logging.WARNING, "f", 1, "bad \x1b[31m text", (), None)
    record.error = "\x1b[2J"
    text = TextFormatter(lambda: {"job_id": "9", "job_name": "send", "queue": "email"}).format(record)
    assert text.endswith("warning: bad �[31m text [send 9] error=�[2J")


# ---- probes


def test_liveness_follows_the_main_loop(time: Clock) -> None:
    heartbeat = Heartbeat()
    assert heartbeat.is_alive
    time.ms += STALE_MS
    assert heartbeat.age_ms == STALE_MS
    heartbeat.beat()
    assert heartbeat.age_ms == 0


async def test_probes_answer_what_they_are_told(time: Clock, counts: Metrics) -> None:
    why = "draining"
    heartbeat = Heartbeat()
    routes = health.build_probe(heartbeat, lambda: why, counts)._routes
    assert routes["/livez"]() == (200, "text/plain; charset=utf-8", "ok\n")
    assert routes["/readyz"]() == (503, "text/plain; charset=utf-8", "draining\n")
    why = ""
    time.ms += STALE_MS + 5000
    assert routes["/livez"]() == (
        503, "text/plain; charset=utf-8", "the main loop has not gone round for 65 s\n",
    )  # fmt: skip
    assert routes["/readyz"]() == (200, "text/plain; charset=utf-8", "ok\n")
