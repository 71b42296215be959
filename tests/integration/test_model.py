"""The engine's scripts against a model of a queue: after each random command both hold the same, key by key."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from support import soak
from support.queue_model import End, ModelJob, QueueModel
from support.redis_server import RedisServer
from toril.engine import scripts
from toril.engine.keys import QueueKeys
from toril.engine.redis.settings import RedisSettings
from toril.engine.redis.sync_connection import SyncConnection
from toril.engine.scripts import Taker
from toril.jobs.job import NewJob
from toril.jobs.options import JobOptions
from toril.jobs.outcome import Finish, TakenJob
from toril.jobs.retention import KEEP_ALL, KeepPolicy
from toril.jobs.signals import QueueSignals

LATER_MS = 3_600_000
LONG_AGO_MS = 1_000_000_000_000
SHORT_STEPS = 1000
"""The short run takes the same steps each time; the long one looks further."""
KINDS = ("completed", "failed", "retry", "retry-later", "requeue")
COMMANDS = [
    *["add"] * 4, *["take"] * 5, *["finish"] * 7, *["check_stalled"] * 3, *["resume"] * 3, *["lose_lock"] * 2,
    *["time_passes"] * 2, "finish_again", "extend", "pause", "limit_concurrency", "write", "forget_scripts",
    "promote", "retry_ended", "remove",
]  # fmt: skip
"""By how often they are drawn."""
Draw = Callable[..., Any]
LOOSE_FIELDS = {"opts", "timestamp", "processedOn", "finishedOn", "pb"}

new_jobs = st.fixed_dictionaries(
    {
        "priority": st.sampled_from([0, 0, 1, 2]),
        "lifo": st.sampled_from([False, False, True]),
        "when": st.sampled_from(["now", "now", "now", "due", "later"]),
        "job_id": st.sampled_from([None, None, None, *"abcd"]),
    }
)


class Machine(RuleBasedStateMachine):
    """One queue on a real server, worked by hand."""

    def __init__(self, url: str, raw: Any) -> None:
        super().__init__()
        self.raw = raw
        self.raw.flushdb()
        self.connection = SyncConnection(RedisSettings.from_url(url))
        self.keys = QueueKeys("q")
        self.model = QueueModel("6")
        self.held: dict[tuple[str, str], TakenJob] = {}
        """Every run that was ever started: (job id, token)."""
        self.last: list[Finish] = []
        self.tokens = itertools.count(1)
        self.moments = itertools.count(LONG_AGO_MS)
        self.last_event = "-"

    def teardown(self) -> None:
        self.connection.close()

    @initialize(layout=st.sampled_from(["5", "6"]))
    def choose(self, layout: Any) -> None:
        self.layout: Any = layout
        self.model = QueueModel(layout)
        self.taker = Taker("worker-1", layout=layout)

    @rule(name=st.sampled_from(COMMANDS), data=st.data())
    def run(self, name: str, data: st.DataObject) -> None:
        """One rule for all: hypothesis leaves rules out of each example, and a queue without takes shows little."""
        getattr(self, name)(data.draw)

    # ---- producers

    def add(self, draw: Draw) -> None:
        """By a client of this queue's layout, or now and then of the other."""
        layout: Any = draw(st.sampled_from([self.layout, self.layout, self.layout, "5", "6"]))
        moment = next(self.moments)
        new, expected = [], []
        for spec in draw(st.lists(new_jobs, min_size=1, max_size=4)):
            options = {"priority": spec["priority"], "lifo": spec["lifo"]}
            when: dict[str, Any] = {}
            if spec["when"] == "due":
                when = {"due_ms": moment + draw(st.integers(0, 2))}
                options |= {"delay": 1, "timestamp": when["due_ms"] - 1}
            elif spec["when"] == "later":
                when = {"later_ms": LATER_MS}
                options |= {"delay": LATER_MS}
            if spec["job_id"]:
                options |= {"jobId": spec["job_id"]}
            new.append(NewJob.create("n", {}, JobOptions.from_bullmq(options)))
            job_id = self.model.add(spec["job_id"], priority=spec["priority"], lifo=spec["lifo"], layout=layout, **when)
            expected.append(job_id)
        now_ms = int(self.raw.time()[0]) * 1000
        assert self.connection.run(scripts.add_jobs(self.keys, new, now_ms=now_ms, layout=layout)) == expected

    def pause(self, draw: Draw) -> None:
        assert self.connection.run(scripts.pause(self.keys, layout=self.layout)) == self.model.pause()

    def resume(self, draw: Draw) -> None:
        assert self.connection.run(scripts.resume(self.keys)) == self.model.resume()

    def limit_concurrency(self, draw: Draw) -> None:
        self.model.concurrency = concurrency = draw(st.sampled_from([None, None, None, 1, 3]))
        if concurrency is None:
            self.raw.hdel(self.keys.meta, "concurrency")
        else:
            self.model.was_limited = True
            self.raw.hset(self.keys.meta, "concurrency", concurrency)

    # ---- workers

    def take(self, draw: Draw) -> None:
        count = draw(st.integers(1, 4))
        if draw(st.booleans()):
            # Woken: somebody has taken the token out of `marker`.
            self.raw.zpopmin(self.keys.marker)
        token = f"worker-1:{next(self.tokens)}"
        taken = self.connection.run(scripts.finish_and_take(self.keys, self.taker, [], count, token)).taken
        self._compare_taken(taken, *self.model.take(count, token), token)

    def finish(self, draw: Draw) -> None:
        keep = draw(st.sampled_from([None, None, None, 0, 2]))
        policy = KEEP_ALL if keep is None else KeepPolicy(count=keep)
        chosen: dict[str, Finish] = {}
        for job in self._some_held(draw):
            chosen[job.id] = _finish(job, draw(st.sampled_from(KINDS)), policy, attempts=draw(st.integers(1, 2)))
        self.last = list(chosen.values())
        if chosen:
            self._finish(self.last, keep, draw(st.integers(0, 2)))

    def finish_again(self, draw: Draw) -> None:
        """As after a lost reply."""
        if self.last:
            self._finish(self.last, self.last[0].keep.count, 0)

    def extend(self, draw: Draw) -> None:
        jobs = self._some_held(draw)
        lost = {job.id for job in jobs if not self.model.extend(job.id, job.token, job.attempts_started)}
        assert self.connection.run(scripts.extend_locks(self.keys, jobs, 30_000)) == lost

    def lose_lock(self, draw: Draw) -> None:
        """A lock runs out, or is another's when we look again."""
        if not self.model.active:
            return
        job = self.model.jobs[draw(st.sampled_from(self.model.active))]
        job.lock = thief = draw(st.sampled_from([None, None, None, "thief:1"]))
        if thief:
            self.raw.set(self.keys.lock(job.id), thief)
        else:
            self.raw.delete(self.keys.lock(job.id))

    def check_stalled(self, draw: Draw) -> None:
        max_stalled_count = draw(st.integers(0, 1))
        if draw(st.sampled_from([True, True, True, False])):
            self.raw.delete(self.keys.stalled_check)
        makes_check = not self.raw.exists(self.keys.stalled_check)
        call = scripts.recover_stalled(
            self.keys, max_stalled_count=max_stalled_count, interval_ms=600_000, layout=self.layout
        )
        found = self.connection.run(call)
        assert set(found) == (self.model.stalled_jobs() if makes_check else set())
        if makes_check:
            self.model.give_back_stalled(found, max_stalled_count)

    def write(self, draw: Draw) -> None:
        job_id, text = draw(st.sampled_from("abcd")), draw(st.sampled_from(["1", '{"a":[]}']))
        job = self.model.jobs.get(job_id)
        is_there = job is not None
        assert self.connection.run(scripts.update_progress(self.keys, job_id, text)) is is_there
        assert self.connection.run(scripts.update_data(self.keys, job_id, text)) is is_there
        rows = self.connection.run(scripts.add_log(self.keys, job_id, text, 2))
        if job is None:
            assert rows == -1
        else:
            job.fields |= {"progress": text, "data": text}
            job.logs = [*job.logs, text][-2:]
            self.model.events.append(("progress", job_id))
            assert rows == len(job.logs)

    # ---- from outside

    def _any_job(self, draw: Draw) -> str:
        return str(draw(st.sampled_from([*sorted(self.model.jobs)[-8:], "nobody"])))

    def promote(self, draw: Draw) -> None:
        job_id = self._any_job(draw)
        code = self.connection.run(scripts.promote_job(self.keys, job_id, layout=self.layout))
        assert (code >= 0) == self.model.promote(job_id)

    def retry_ended(self, draw: Draw) -> None:
        job_id, kind = self._any_job(draw), draw(st.sampled_from(["completed", "failed"]))
        call = scripts.retry_job(
            self.keys, job_id, kind, reset_attempts_made=False, reset_attempts_started=False, layout=self.layout
        )
        assert (self.connection.run(call) >= 0) == self.model.retry(job_id, kind)

    def remove(self, draw: Draw) -> None:
        job_id = self._any_job(draw)
        call = scripts.remove_job(self.keys, job_id, with_children=True, count=1000, layout=self.layout)
        assert self.connection.run(call) == int(self.model.remove(job_id))

    # ---- around them

    def time_passes(self, draw: Draw) -> None:
        """A delayed job becomes due: its score is moved, the server's clock stays."""
        if not self.model.later:
            return
        job_id = draw(st.sampled_from(sorted(self.model.later)))
        due_ms = next(self.moments) + 10
        self.raw.zadd(self.keys.delayed, {job_id: due_ms * 4096})
        next(self.moments), next(self.moments), next(self.moments)
        self.model.time_passes(job_id, due_ms)

    def forget_scripts(self, draw: Draw) -> None:
        self.raw.script_flush()

    # ---- what must hold

    @invariant()
    def both_hold_the_same(self) -> None:
        model, raw, keys = self.model, self.raw, self.keys
        pipe = raw.pipeline(transaction=False)
        for key in (keys.wait, keys.paused, keys.active):
            pipe.lrange(key, 0, -1)
        for key in (keys.prioritized, keys.delayed, keys.completed, keys.failed, keys.marker):
            pipe.zrange(key, 0, -1)
        pipe.smembers(keys.stalled)
        pipe.xrange(keys.events, f"({self.last_event}" if self.last_event != "-" else "-")
        pipe.keys(keys.base + "*")
        ids = sorted(model.jobs)
        for job_id in ids:
            pipe.hgetall(keys.job(job_id))
            pipe.get(keys.lock(job_id))
            pipe.lrange(keys.logs(job_id), 0, -1)
        found = pipe.execute()
        wait, paused, active, prioritized, delayed, completed, failed, marker, stalled, events, names = found[:11]
        assert (wait[::-1], paused[::-1]) == (model.wait, model.paused)
        assert sorted(active) == sorted(model.active)
        assert prioritized == [job_id for _, _, job_id in model.prioritized]
        due = sorted(model.due, key=lambda job_id: model.due[job_id])
        assert (delayed[: len(due)], set(delayed[len(due) :])) == (due, model.later)
        assert set(completed) == model.finished["completed"]
        assert set(failed) == model.finished["failed"]
        assert stalled == model.stalled
        if model.runnable and not model.is_paused and not model.was_limited:
            assert "0" in marker, "there is work, and no worker would be woken for it"
        for job_id, (fields, lock, logs) in zip(ids, _threes(found[11:]), strict=True):
            job = model.jobs[job_id]
            assert {name: text for name, text in fields.items() if name not in LOOSE_FIELDS} == job.fields
            assert (lock, logs) == (job.lock, job.logs)
        assert sorted((fields["event"], fields.get("jobId", "")) for _, fields in events) == sorted(model.events)
        model.events.clear()
        if events:
            self.last_event = events[-1][0]
        self._nothing_is_left_over(set(names))
        self._counts_are_right()

    def _nothing_is_left_over(self, names: set[str]) -> None:
        parts = {name.removeprefix(self.keys.base) for name in names}
        of_jobs = {part for job in self.model.jobs.values() for part in _parts(job)}
        of_queue = {
            "id", "meta", "events", "pc", "marker", "stalled-check", "stalled", "wait", "paused", "active",
            "prioritized", "delayed", "completed", "failed",
        }  # fmt: skip
        assert parts - of_queue == of_jobs

    def _counts_are_right(self) -> None:
        (signals,) = self.connection.run(scripts.read_signals([self.keys]))
        assert isinstance(signals, QueueSignals)
        found = {
            "waiting": signals.waiting, "active": signals.active, "delayed": signals.delayed,
            "prioritized": signals.prioritized, "waiting-children": signals.waiting_children,
            "completed": signals.completed, "failed": signals.failed,
        }  # fmt: skip
        assert found == self.model.counts()
        assert signals.delayed_due == len(self.model.due)

    # ---- helpers

    def _some_held(self, draw: Draw) -> list[TakenJob]:
        """Runs of ours; mostly ones that are still ours, of which there is one a job."""
        jobs = self.model.jobs
        live = [name for name in self.held if name[0] in jobs and jobs[name[0]].lock == name[1]]
        names = sorted(live if live and draw(st.integers(0, 9)) else self.held, key=_by_age)[-6:]
        chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)) if names else []
        return [self.held[name] for name in chosen]

    def _finish(self, finishes: list[Finish], keep: int | None, count: int) -> None:
        model = self.model
        ends = [_end(finish) for finish in finishes]
        before = {kind: dict(self.raw.zrange(self.keys.base + kind, 0, -1, withscores=True)) for kind in model.finished}
        token = f"worker-1:{next(self.tokens)}"
        reply = self.connection.run(scripts.finish_and_take(self.keys, self.taker, finishes, count, token))
        codes = model.finish(ends, keep)
        assert reply.codes == codes
        if keep:
            for kind in {end.kind for end, code in zip(ends, codes, strict=True) if code == 0} & {
                "completed",
                "failed",
            }:
                self._retain(kind, keep, before[kind])
        is_blocked = model.is_paused or model.is_maxed
        expected, tells_due = model.take(count, token) if count else ([], False)
        self._compare_taken(reply.taken, expected, tells_due, token)
        if not expected:
            model.tell_drained(ends, codes, count > 0, is_blocked)

    def _retain(self, kind: str, keep: int, before: dict[str, float]) -> None:
        """The newest are kept; which of those that ended in one millisecond is left open."""
        after = dict(self.raw.zrange(self.keys.base + kind, 0, -1, withscores=True))
        assert len(after) == self.model.keep_newest(kind, keep)
        assert set(after) <= self.model.finished[kind]
        latest = max([*before.values(), *after.values()])
        removed = self.model.finished[kind] - set(after)
        assert all(before.get(job_id, latest) <= min(after.values()) for job_id in removed)
        for job_id in removed:
            self.model.remove_finished(kind, job_id)

    def _compare_taken(self, taken: scripts.Taken, ids: list[str], tells_due: bool, token: str) -> None:
        assert [job.id for job in taken.jobs] == ids
        assert (taken.next_due_ms > 0, taken.rate_limit_ms) == (tells_due, 0)
        for job in taken.jobs:
            stored = self.model.jobs[job.id]
            assert (job.attempts_started, job.attempts_made) == (stored.count("ats"), stored.count("atm"))
            assert job.deferred_failure == stored.fields.get("defa")
            self.held[job.id, token] = job


def _threes(values: list[Any]) -> list[list[Any]]:
    return [values[at : at + 3] for at in range(0, len(values), 3)]


def _by_age(name: tuple[str, str]) -> int:
    return int(name[1].rpartition(":")[2])


def _parts(job: ModelJob) -> set[str]:
    return {job.id} | ({f"{job.id}:lock"} if job.lock else set()) | ({f"{job.id}:logs"} if job.logs else set())


def _finish(job: TakenJob, kind: str, keep: KeepPolicy, *, attempts: int) -> Finish:
    match kind:
        case "completed":
            return Finish.completed(job, '"done"', keep)
        case "failed":
            return Finish.failed(job, "no", "[]", keep, attempts=attempts)
        case "requeue":
            return Finish.requeue(job)
    return Finish.retry(job, "once more", "[]", LATER_MS if kind == "retry-later" else 0)


def _end(finish: Finish) -> End:
    job = finish.job
    return End(
        job.id,
        job.token,
        job.attempts_started,
        job.attempts_made,
        finish.kind,
        finish.value,
        finish.delay_ms,
        finish.attempts,
    )


@pytest.mark.requirement("T21", "T36")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("steps", soak.lengths(SHORT_STEPS, 10_000))
def test_model_and_engine_agree(redis_url: str, redis_server: RedisServer, steps: int) -> None:
    each = 40
    how = settings(
        max_examples=steps // each, stateful_step_count=each, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate], derandomize=steps == SHORT_STEPS,
    )  # fmt: skip
    with redis_server.client(int(redis_url.rpartition("/")[2])) as raw:

        class Here(Machine):
            def __init__(self) -> None:
                super().__init__(redis_url, raw)

        run_state_machine_as_test(Here, settings=how)
