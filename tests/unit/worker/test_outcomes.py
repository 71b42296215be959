"""How an attempt ends, decided without Redis."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from support.taken import taken_job
from toril import errors
from toril.engine.worker import Finish
from toril.jobs import codec
from toril.jobs.job import JobRecord
from toril.jobs.retention import KEEP_ALL, KEEP_NONE, KeepPolicy
from toril.worker import outcomes, problems
from toril.worker.outcomes import RuleBook, Rules


def rules_of(**opts: Any) -> Rules:
    return RuleBook().of(taken_job(opts=opts))


def fail(error: BaseException, opts: Any = None, random: float = 0.5, **fields: Any) -> Finish:
    job = taken_job(opts=opts, **fields)
    return outcomes.failed(job, error, RuleBook().of(job), lambda: random)


def test_a_result_is_written_as_json() -> None:
    finish = outcomes.completed(taken_job(), {"é": [1, None]}, Rules())
    assert (finish.kind, finish.value, finish.keep) == ("completed", '{"é":[1,null]}', KEEP_ALL)
    assert outcomes.completed(taken_job(), None, Rules()).value == "null"


@pytest.mark.requirement("T16")
def test_the_limit_of_a_result_counts_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_BYTES", 1000)
    outcomes.completed(taken_job(), "x" * 998, Rules())
    with pytest.raises(errors.InvalidPayloadError, match="return value: is 1002 bytes as JSON; the limit is 1000"):
        outcomes.completed(taken_job(), "é" * 500, Rules())


@pytest.mark.parametrize(
    ("attempts", "made", "kind"),
    [(0, 0, "failed"), (1, 0, "failed"), (2, 0, "retry"), (2, 1, "failed"), (3, 1, "retry"), (3, 7, "failed")],
)
def test_another_attempt_is_made_while_there_are_some(attempts: int, made: int, kind: str) -> None:
    finish = fail(ValueError("no"), {"attempts": attempts}, atm=made)
    assert (finish.kind, finish.value) == (kind, "no")


def test_unrecoverable_ends_it() -> None:
    finish = fail(errors.UnrecoverableError("gone"), {"attempts": 5})
    assert (finish.kind, finish.value, finish.attempts) == ("failed", "gone", 5)


@pytest.mark.parametrize(
    ("backoff", "made", "delay_ms"),
    [
        (None, 0, 0),
        (700, 2, 700),
        ({"type": "fixed", "delay": 700}, 0, 700),
        ({"type": "exponential", "delay": 1000}, 0, 1000),
        ({"type": "exponential", "delay": 1000}, 1, 2000),
        ({"type": "exponential", "delay": 1000}, 2, 4000),
        ({"type": "exponential", "delay": 1000, "jitter": 0.5}, 1, 1500),
        ({"type": "exponential", "delay": 1000}, 2000, 2**40),
        ({"type": "of their own", "delay": 60_000}, 0, 60_000),
        ({"type": "of their own"}, 0, outcomes.UNKNOWN_BACKOFF_MS),
    ],
)
def test_the_pause_before_another_attempt(backoff: Any, made: int, delay_ms: int) -> None:
    assert fail(ValueError(), {"attempts": 9999, "backoff": backoff}, atm=made).delay_ms == delay_ms


def test_a_custom_type_without_a_strategy_is_logged_with_its_field(caplog: pytest.LogCaptureFixture) -> None:
    fail(ValueError(), {"attempts": 2, "backoff": {"type": "exponetial", "delay": 5000}})
    [line] = caplog.records
    assert line.getMessage() == (
        "opts.backoff.type 'exponetial' is not `fixed` or `exponential`, and this worker has no function of "
        "@queue.backoff: the job waits 5000 ms"
    )
    fail(ValueError(), {"attempts": 2, "backoff": {"type": "exponential", "delay": 5000}})
    fail(ValueError(), {"attempts": 1, "backoff": {"type": "exponetial", "delay": 5000}})
    assert len(caplog.records) == 1


def test_a_strategy_reads_further_fields_of_its_option() -> None:
    """BullMQ stores each field of the option, and JavaScript's strategies read them."""
    option = {"type": "stepped", "delay": 1000, "steps": [3, 9]}
    job = taken_job(opts={"attempts": 5, "backoff": option}, atm=1)

    def step(attempts_made: int, error: BaseException, job: JobRecord) -> float:
        seconds: float = job.opts["backoff"]["steps"][attempts_made - 1]
        return seconds

    rules = RuleBook(strategy=step).of(job)
    assert outcomes.failed(job, ValueError(), rules, lambda: 0.5).delay_ms == 9000
    assert fail(ValueError(), {"attempts": 5, "backoff": option}).delay_ms == 1000
    assert fail(ValueError(), {"attempts": 5, "backoff": {**option, "type": "fixed", "delay": 700}}).delay_ms == 700


def test_the_pause_is_capped() -> None:
    opts = {"attempts": 9, "backoff": {"type": "exponential", "delay": 1000}, "torilMaxDelay": 3000}
    assert fail(ValueError(), opts, atm=5).delay_ms == 3000


def group(*problems: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("all", problems)


@pytest.mark.parametrize(
    ("error", "kind", "delay_ms"),
    [
        (group(errors.UnrecoverableError("gone")), "failed", 0),
        (group(ValueError("one"), group(errors.UnrecoverableError("gone"))), "failed", 0),
        (group(errors.DelayJobError(1), errors.UnrecoverableError("gone")), "failed", 0),
        (group(ValueError("one"), KeyError("two")), "retry", 0),
        (group(errors.DelayJobError(1)), "delay", 1000),
        (group(ValueError("one"), group(group(errors.DelayJobError(2)))), "delay", 2000),
        (group(errors.RequeueJobError()), "requeue", 0),
        (group(errors.RateLimitedError(3)), "limit", 3000),
        (group(errors.WaitForChildrenError()), "waiting-children", 0),
        (group(errors.DelayJobError(float("nan"))), "retry", 0),
    ],
)
def test_what_is_inside_a_group_decides(error: BaseException, kind: str, delay_ms: int) -> None:
    finish = fail(error, {"attempts": 3})
    assert (finish.kind, finish.delay_ms) == (kind, delay_ms)


def test_the_reason_of_a_group_names_what_is_in_it() -> None:
    nested = group(ValueError("one"), group(KeyError("two"), asyncio.CancelledError()))
    assert fail(nested).value == "all (2 sub-exceptions): ValueError: one; KeyError: 'two'; CancelledError"
    many = problems.reason_of(group(*[ValueError(str(number)) for number in range(99)]))
    assert many.endswith("; ValueError: 19; …")


def test_errors_let_go_of_what_their_frames_hold() -> None:
    def raised(cause: BaseException | None) -> BaseException:
        try:
            raise ValueError("raised") from cause
        except ValueError as problem:
            return problem

    first = raised(None)
    inner = raised(first)
    whole = raised(group(inner))
    whole.__context__ = loop = raised(None)
    loop.__context__ = whole
    problems.let_go(whole)
    assert [each.__traceback__ for each in (first, inner, whole, loop)] == [None] * 4


def test_reasons_are_text_that_can_be_stored() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert problems.reason_of(ValueError("a\ud800b")) == "a?b"
    assert problems.reason_of(KeyError()) == "KeyError"
    assert problems.reason_of(MuteError()) == "MuteError"
    assert len(problems.reason_of(ValueError("x" * 99_999))) == problems.MAX_REASON


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_what_looking_at_an_error_or_a_result_raises_ends_nothing_but_its_job(end: type[BaseException]) -> None:
    class NastyError(Exception):
        def __str__(self) -> str:
            raise end

    class Nasty(dict[str, Any]):
        def items(self) -> Any:
            raise end

    finish = fail(NastyError())
    assert finish.value == "NastyError"
    with pytest.raises(errors.InvalidPayloadError, match=f"return value: cannot be read: {end.__name__}"):
        outcomes.completed(taken_job(), Nasty(a=1), Rules())


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e308, 1e300, -1.0, True])
def test_a_pause_that_makes_no_sense_is_a_failure(seconds: float) -> None:
    for signal in (errors.DelayJobError(seconds), errors.RateLimitedError(seconds)):
        finish = fail(signal, {"attempts": 2})
        assert (finish.kind, finish.value.split(":")[0]) == ("retry", "seconds")
    assert fail(errors.RateLimitedError()).kind == "limit"


def test_stack_traces_are_kept_oldest_first_up_to_a_limit() -> None:
    stored = json.dumps(["first", "second"])
    traces = json.loads(fail(ValueError("third"), {}, stacktrace=stored).stacktrace)
    assert traces == ["first", "second", "ValueError: third\n"]
    traces = json.loads(fail(ValueError("third"), {"stackTraceLimit": 2}, stacktrace=stored).stacktrace)
    assert traces == ["second", "ValueError: third\n"]
    assert fail(ValueError(), {"stackTraceLimit": 0}, stacktrace=stored).stacktrace == "[]"
    (trace,) = json.loads(fail(ValueError("x" * 99_999 + "end"), {}).stacktrace)
    assert len(trace) == outcomes.MAX_TRACE
    assert trace.endswith("end\n")


def test_retention_is_the_jobs_else_the_workers() -> None:
    book = RuleBook(KeepPolicy(count=5), KeepPolicy(age_seconds=60))
    assert book.of(taken_job()).keep_completed == KeepPolicy(count=5)
    rules = book.of(taken_job(opts={"removeOnComplete": True, "removeOnFail": False}))
    assert (rules.keep_completed, rules.keep_failed) == (KEEP_NONE, KEEP_ALL)
    rules = book.of(taken_job(opts={"removeOnComplete": "nonsense", "removeOnFail": {"x": 1}}))
    assert (rules.keep_completed, rules.keep_failed) == (KeepPolicy(count=5), KeepPolicy(age_seconds=60))


@pytest.mark.parametrize(
    "opts",
    ["", "not json", "[1]", '{"attempts":"three","backoff":{"type":7},"stackTraceLimit":-1}', '{"attempts":NaN}'],
)
def test_options_that_make_no_sense_count_as_not_given(opts: str) -> None:
    assert RuleBook().of(taken_job(opts=opts)) == Rules()


def test_rules_are_read_once_for_all_jobs_of_a_kind_and_do_not_pile_up() -> None:
    book = RuleBook()
    assert book.of(taken_job("1", opts={"attempts": 3})) is book.of(taken_job("2", opts={"attempts": 3}))
    for number in range(RuleBook.SIZE * 2):
        assert book.of(taken_job(opts={"delay": number})).delay_ms == number
    assert len(book._known) <= RuleBook.SIZE


def test_a_strategy_of_the_users_own_decides_about_types_that_bullmq_does_not_have() -> None:
    seen: list[tuple[int, str, str]] = []

    def pause(attempts_made: int, error: BaseException, job: JobRecord) -> float | timedelta:
        seen.append((attempts_made, str(error), job.id))
        return 1.5 * attempts_made if attempts_made < 3 else timedelta(minutes=1)

    book = RuleBook(strategy=pause)

    def delay_of(made: int, backoff: Any) -> int:
        job = taken_job(opts={"attempts": 5, "backoff": backoff}, atm=made)
        return outcomes.failed(job, ValueError("no"), book.of(job), lambda: 0.5).delay_ms

    custom = {"type": "custom", "delay": 7, "jitter": 0.5}
    assert [delay_of(made, custom) for made in (0, 1, 2)] == [1500, 3000, 60_000]
    assert seen == [(1, "no", "1"), (2, "no", "1"), (3, "no", "1")]
    assert delay_of(0, {"type": "fixed", "delay": 7}) == 7
    assert delay_of(0, None) == 0
    assert len(seen) == 3


@pytest.mark.parametrize("answer", [None, -1])
def test_a_strategy_may_give_up(answer: Any) -> None:
    job = taken_job(opts={"attempts": 5, "backoff": {"type": "custom"}})
    rules = RuleBook(strategy=lambda *_: answer).of(job)
    finish = outcomes.failed(job, ValueError("no"), rules, lambda: 0.5)
    assert (finish.kind, finish.attempts) == ("failed", 5)


@pytest.mark.parametrize(
    "answer", ["soon", -2, float("nan"), [], ValueError("broken"), SystemExit(1), asyncio.CancelledError()], ids=repr
)
def test_a_broken_strategy_costs_no_attempts(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    def pause(*_: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    job = taken_job(opts={"attempts": 2, "backoff": {"type": "custom", "delay": 5000}})
    finish = outcomes.failed(job, ValueError("no"), RuleBook(strategy=pause).of(job), lambda: 0.5)
    assert (finish.kind, finish.delay_ms) == ("retry", 5000)
    assert "the backoff strategy failed" in caplog.text


def test_the_queues_defaults_say_what_is_kept_where_neither_job_nor_worker_does() -> None:
    book = RuleBook(KeepPolicy(count=5), None)
    assert book.of(taken_job()).keep_failed == KEEP_ALL
    book.use_defaults({"removeOnComplete": True, "removeOnFail": {"count": 9}, "attempts": 3})
    rules = book.of(taken_job())
    assert (rules.keep_completed, rules.keep_failed) == (KeepPolicy(count=5), KeepPolicy(count=9))
    assert book.of(taken_job(opts={"removeOnFail": 1})).keep_failed == KeepPolicy(count=1)
    book.use_defaults({})
    assert book.of(taken_job()).keep_failed == KEEP_ALL
