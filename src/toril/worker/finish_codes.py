"""What it means that Redis refuses the end of a job: the codes of `finish_and_take`, read for one run."""

from __future__ import annotations

import random

from toril import errors
from toril.engine.codes import Code
from toril.errors import RedisReason
from toril.jobs.outcome import Finish
from toril.worker import outcomes
from toril.worker.attempt import Attempt

BY_CHILDREN = (Code.PENDING_CHILDREN, Code.FAILED_CHILDREN)

_LASTING = {
    RedisReason.AUTH_FAILED,
    RedisReason.IS_CLUSTER,
    RedisReason.IS_SENTINEL,
    RedisReason.NOT_REDIS,
    RedisReason.NO_SUCH_DATABASE,
}

_WHY_LOST: dict[int, str] = {
    Code.NO_JOB: "the job was removed",
    Code.NO_LOCK: "its lock ran out and the job was given to others",
    Code.OTHER_STATE: "it is not active any more",
    Code.OTHER_LOCK: "another worker holds it",
}


def why_lost(code: int) -> str:
    """Why a run's result cannot be recorded, for people."""
    return _WHY_LOST.get(code, f"code {code}")


def is_outage(problem: errors.RedisError) -> bool:
    """Whether Redis could not be reached or cannot serve; otherwise it answered that this call makes no sense to it."""
    return isinstance(problem, errors.RedisUnavailableError | errors.UnknownOutcomeError)


def is_refusal(problem: errors.RedisError) -> bool:
    """Whether the server has answered, and answered that it does not carry out the call."""
    is_answer = problem.reason not in (RedisReason.CONNECTION_REFUSED, RedisReason.TIMEOUT, RedisReason.TLS_FAILED)
    return is_answer and not isinstance(problem, errors.UnknownOutcomeError)


def is_lasting(problem: errors.RedisError) -> bool:
    """Whether Redis refuses for a reason that does not pass by itself: a right, or a server that is the wrong one."""
    return problem.reason in _LASTING and is_refusal(problem)


def was_carried_out(finish: Finish, code: int) -> bool:
    """Whether this refusal means that the same finish was carried out before. Only for a repeated one.

    A job that is gone has ended, and retention has removed it. No lock, and it was the give-back of an unstarted job:
    count it as done; at worst the job stalls.
    """
    return finish.is_repeated and (code == Code.NO_JOB or (code == Code.NO_LOCK and not finish.has_started))


def failed_by_children(run: Attempt, code: int) -> Finish:
    """It fails instead; that is no fault of its own while children are pending, so that it may be tried again."""
    problem: errors.TorilError
    if code == Code.PENDING_CHILDREN:
        problem = errors.JobStateError(f"job {run.record.id} has child jobs that have not ended")
    else:
        problem = errors.UnrecoverableError(f"job {run.record.id} has child jobs that have failed")
    run.error = problem
    return outcomes.failed(run.record, problem, run.rules, random.random)
