"""Decides how an attempt ends: completed, another attempt, or failed. Pure, but for the random number it is given."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from toril import errors
from toril.client.options import BackoffStrategy, milliseconds
from toril.jobs import backoff, codec, options, retention
from toril.jobs.backoff import Backoff
from toril.jobs.outcome import Finish, TakenJob
from toril.jobs.retention import KEEP_ALL, KeepPolicy
from toril.worker.problems import leaves_of, reason_of, storable

logger = logging.getLogger("toril.worker")

MAX_TRACE = 32_768
"""Of longer stack traces the end is kept, characters."""
UNKNOWN_BACKOFF_MS = 1000
"""Least wait for a custom backoff type that this worker does not know."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a job's own options say about its end."""

    attempts: int = 0
    backoff: Backoff | None = None
    max_delay_ms: int | None = None
    stack_trace_limit: int | None = None
    keep_completed: KeepPolicy = KEEP_ALL
    keep_failed: KeepPolicy = KEEP_ALL
    delay_ms: int = 0
    """How long the job was to wait from the start; waiting for that is not the queue's fault."""
    strategy: BackoffStrategy | None = None
    """The user's own, for backoff types that BullMQ does not have."""


class RuleBook:
    """Rules by the stored text of the options: jobs of one kind share it, so it is read once, not once a job."""

    SIZE = 512

    def __init__(
        self,
        keep_completed: KeepPolicy | None = None,
        keep_failed: KeepPolicy | None = None,
        strategy: BackoffStrategy | None = None,
    ) -> None:
        """Args: keep_completed, keep_failed: the worker's own; None = it has none."""
        self._own_keeps = (keep_completed, keep_failed)
        self._keep_completed, self._keep_failed = self._own_keeps
        self._strategy = strategy
        self._known: dict[bytes, Rules] = {}

    def use_defaults(self, stored: Mapping[str, Any]) -> None:
        """Let the queue's default options say what is kept, where neither job nor worker does."""
        of_queue = (KeepPolicy.parse(stored.get(name), name) for name in ("removeOnComplete", "removeOnFail"))
        keeps = tuple(own or default for own, default in zip(self._own_keeps, of_queue, strict=True))
        if keeps != (self._keep_completed, self._keep_failed):
            self._keep_completed, self._keep_failed = keeps
            self._known.clear()

    def of(self, job: TakenJob) -> Rules:
        """The rules of one job. Options that make no sense count as not given: the job is not to suffer for them."""
        text = job.opts_json
        rules = self._known.get(text)
        if rules is None:
            try:
                opts: Mapping[str, Any] = job.opts
            except errors.InvalidPayloadError:
                opts = {}
            rules = self._read(opts)
            if len(self._known) >= self.SIZE:
                self._known.clear()
            self._known[text] = rules
        return rules

    def _read(self, opts: Mapping[str, Any]) -> Rules:
        return Rules(
            attempts=int(min(options.attempts_in(opts), codec.MAX_SAFE_INTEGER)),
            backoff=_lenient(lambda: Backoff.of_stored(opts.get("backoff")), None),
            max_delay_ms=options.count_in(opts.get("torilMaxDelay")),
            stack_trace_limit=options.count_in(opts.get("stackTraceLimit")),
            keep_completed=_lenient(
                lambda: retention.choose(opts.get("removeOnComplete"), self._keep_completed, "removeOnComplete"),
                self._keep_completed or KEEP_ALL,
            ),
            keep_failed=_lenient(
                lambda: retention.choose(opts.get("removeOnFail"), self._keep_failed, "removeOnFail"),
                self._keep_failed or KEEP_ALL,
            ),
            delay_ms=options.count_in(opts.get("delay")) or 0,
            strategy=self._strategy,
        )


def completed(job: TakenJob, value: Any, rules: Rules) -> Finish:
    """The function returned.

    Raises:
        InvalidPayloadError: what it returned is not JSON or too large.
    """
    try:
        text = "null" if value is None else codec.encode(value, "return value")
    except errors.InvalidPayloadError:
        raise
    except BaseException as problem:
        # Also SystemExit. Looking at it runs the user's code; whatever that raises must not cost the worker a slot.
        raise errors.InvalidPayloadError("return value", f"cannot be read: {reason_of(problem)}") from None
    return Finish(job, "completed", text, keep=rules.keep_completed)


def failed(
    job: TakenJob, error: BaseException, rules: Rules, random: Callable[[], float], trace: TracebackType | None = None
) -> Finish:
    """The attempt failed: there is another one, or there is not.

    In a group of errors an `UnrecoverableError` fails the job; else the first signal (later, next, limited) is obeyed.

    Args:
        random: gives a number in [0, 1), for jitter.
        trace: the traceback to store, without our own frames.
    """
    leaves = list(leaves_of(error))
    is_unrecoverable = any(isinstance(leaf, errors.UnrecoverableError) for leaf in leaves)
    signals = [leaf for leaf in leaves if isinstance(leaf, errors.JobSignalError)]
    if signals and not is_unrecoverable:
        try:
            return _signalled(job, signals[0])
        except errors.InvalidOptionError as problem:
            error = problem
    stacktrace = _stacktrace(job, error, trace, rules.stack_trace_limit)
    attempts_made = job.attempts_made + 1
    if attempts_made < rules.attempts and not is_unrecoverable:
        delay_ms = _delay_ms(job, error, rules, attempts_made, random)
        if delay_ms is not None:
            return Finish.retry(job, reason_of(error), stacktrace, delay_ms)
    return Finish.failed(job, reason_of(error), stacktrace, rules.keep_failed, attempts=rules.attempts)


def _signalled(job: TakenJob, signal: errors.JobSignalError) -> Finish:
    """What the processor asked for in place of an end. Raises InvalidOptionError for a pause that makes no sense."""
    if isinstance(signal, errors.DelayJobError):
        return Finish.delay(job, milliseconds(signal.seconds, "seconds"))
    if isinstance(signal, errors.WaitForChildrenError):
        return Finish.wait_for_children(job)
    if isinstance(signal, errors.RateLimitedError):
        return Finish.limit(job, 0 if signal.seconds is None else milliseconds(signal.seconds, "seconds"))
    return Finish.requeue(job)


def _delay_ms(
    job: TakenJob, error: BaseException, rules: Rules, attempts_made: int, random: Callable[[], float]
) -> int | None:
    """How long the job waits for its next attempt, milliseconds; None = there is no next attempt."""
    if rules.backoff is not None and not rules.backoff.is_known:
        return _custom_delay_ms(job, error, rules.backoff, rules.strategy, attempts_made)
    try:
        return backoff.retry_delay_ms(rules.backoff, attempts_made, random, max_delay_ms=rules.max_delay_ms)
    except OverflowError:
        return rules.max_delay_ms or 2**40


def _custom_delay_ms(
    job: TakenJob, error: BaseException, custom: Backoff, strategy: BackoffStrategy | None, attempts_made: int
) -> int | None:
    """As `_delay_ms`, for a type that is not BullMQ's.

    Without a result of the user's strategy the job waits for the `delay` of its option, and at least for
    `UNKNOWN_BACKOFF_MS`. The job keeps its attempts, since another worker may have the strategy.
    """
    plain_ms = max(UNKNOWN_BACKOFF_MS, int(custom.delay_ms))
    extra = {"job_id": job.id, "job_name": job.name}
    if strategy is None:
        logger.warning(
            "opts.backoff.type %r is not `fixed` or `exponential`, and this worker has no function of @queue.backoff: "
            "the job waits %d ms",
            custom.type,
            plain_ms,
            extra=extra,
        )
        return plain_ms
    try:
        length = strategy(attempts_made, error, job)
        return None if length in (None, -1) else milliseconds(length, "the backoff strategy's answer")
    except BaseException:
        # Also SystemExit. A fault of the user's strategy does not take the job's attempts.
        logger.exception("the backoff strategy failed: the job waits %d ms", plain_ms, extra=extra)
        return plain_ms


def _stacktrace(job: TakenJob, error: BaseException, trace: TracebackType | None, limit: int | None) -> str:
    if limit == 0:
        return "[]"
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        # As in `reason_of`.
        text = type(error).__name__
    # Earlier ones may be another library's.
    entries = [*map(storable, job.stacktrace), storable(text)[-MAX_TRACE:]]
    return json.dumps(entries[-limit:] if limit else entries, ensure_ascii=False)


def _lenient(read: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return read()
    except errors.InvalidOptionError:
        return otherwise
