"""The twin of `toril.client.handle`, for code without an event loop. Written by tools/sync_twins.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from toril import clock

if TYPE_CHECKING:
    from toril.client.connection import QueueClient
    from toril.client.options import Duration
    from toril.engine.flows import JobTree
    from toril.engine.getters import JobLogs
    from toril.jobs.children import Children
    from toril.jobs.job import JobRecord, JobState

R = TypeVar("R")


class SyncJobHandle(Generic[R]):
    """One job of one queue. Holds no connection; R is what the job's function returns."""

    __slots__ = ("_created_ms", "client", "id")

    def __init__(self, client: QueueClient, job_id: str) -> None:
        self.client = client
        self.id = job_id
        self._created_ms = clock.now_ms()

    def result(self, timeout: float | None = None) -> R:
        """Wait until the job has finished and return what its function returned, as JSON gives it back.

        Args:
            timeout: seconds; None = as long as it takes.

        Raises:
            JobFailedError: the job failed for good; holds the reason and the remote stacktrace.
            ResultTimeoutError: not finished in time; the job goes on.
            JobNotFoundError: the job is gone, and the queue's events do not hold its end.
            RedisUnavailableError: Redis could not be reached or refused the login. `result` waits on when Redis is
                lost later.
        """
        return cast(R, self.client.result_sync(self.id, self._created_ms, timeout))

    def state(self) -> JobState:
        """Where the job is now."""
        return self.client.execute_sync(self.client.operations.state(self.id))

    def job(self) -> JobRecord:
        """Everything stored about the job now. Raises JobNotFoundError when it is gone."""
        return self.client.execute_sync(self.client.operations.job(self.id))

    def state_and_job(self) -> tuple[JobState, JobRecord]:
        """Where the job is, and everything stored about it, as of one moment. Raises JobNotFoundError."""
        return self.client.execute_sync(self.client.operations.state_and_job(self.id))

    # ---- changing it

    def promote(self) -> None:
        """Let the job run now, though it is delayed. Raises JobNotFoundError, JobStateError."""
        self.client.execute_sync(self.client.operations.promote(self.id))

    def retry(self, state: Literal["completed", "failed"] = "failed", *, reset_attempts: bool = False) -> None:
        """Let the job run again after its end.

        Args:
            state: how it must have ended.
            reset_attempts: count attempts from the start again; else a job that has used up its attempts gets one more.

        Raises:
            JobNotFoundError: there is no such job.
            JobStateError: it is not in that state.
        """
        self.client.execute_sync(self.client.operations.retry(self.id, state, reset_attempts))

    def remove(self, *, with_children: bool = True) -> None:
        """Remove the job, its children too unless said otherwise; nothing happens when it is gone already.

        Raises:
            JobLockedError: a worker runs it, or a child that it waits for; nothing was removed.
            JobStateError: it is the next run of a job scheduler.
        """
        self.client.execute_sync(self.client.operations.remove(self.id, with_children))

    def change_delay(self, delay: Duration) -> None:
        """Let the delayed job run so long from now. Raises JobNotFoundError, JobStateError."""
        self.client.execute_sync(self.client.operations.change_delay(self.id, delay))

    def change_priority(self, priority: int = 0, *, lifo: bool = False) -> None:
        """Change the job's priority; if it waits, it takes its new place at once.

        Args:
            priority: 1 (soonest) to 2097151, or 0 for none, which is before all.
            lifo: before the jobs of the same priority, else behind them.
        """
        self.client.execute_sync(self.client.operations.change_priority(self.id, priority, lifo))

    def progress(self, value: Any) -> None:
        """Set the job's `progress`, any JSON value, and emit the event `progress`.

        Raises InvalidPayloadError, JobNotFoundError.
        """
        self.client.execute_sync(self.client.operations.update_progress(self.id, value))

    def update_data(self, data: Any) -> None:
        """Replace the job's data: what its next attempt gets. Raises InvalidPayloadError, JobNotFoundError."""
        self.client.execute_sync(self.client.operations.update_data(self.id, data))

    def log(self, row: object, *, keep: int | None = None) -> int:
        """Append a row to the job's log and return how many there are; `keep`: only the newest so many stay."""
        return self.client.execute_sync(self.client.operations.add_log(self.id, row, keep))

    def logs(self, *, first: int = 0, last: int = -1, newest_first: bool = False) -> JobLogs:
        """Rows of the job's log, and how many there are in all. Ranks are both included; −1 = to the end."""
        return self.client.execute_sync(self.client.operations.logs(self.id, first, last, newest_first))

    def clear_logs(self, *, keep: int = 0) -> None:
        """Remove the job's log rows but for the newest `keep`."""
        self.client.execute_sync(self.client.operations.clear_logs(self.id, keep))

    def leave_parent(self) -> bool:
        """Remove the job from its parent's children; return whether the parent waited for it.

        Raises JobNotFoundError, JobStateError.
        """
        return self.client.execute_sync(self.client.operations.leave_parent(self.id))

    def remove_unprocessed_children(self) -> None:
        """Remove the job's children that have not ended and that no worker runs, and their children in turn."""
        self.client.execute_sync(self.client.operations.remove_unprocessed_children(self.id))

    # ---- flows

    def children(self) -> Children:
        """What became of the jobs that this one waits for, or waited for."""
        return self.client.execute_sync(self.client.operations.children(self.id))

    def tree(self, *, depth: int = 10, max_children: int = 20) -> JobTree:
        """The job with its children, theirs, and so on, as they are stored now.

        Args:
            depth: levels in all.
            max_children: of a job's children that have completed, that are pending, and so on, at most so many.

        Raises:
            JobNotFoundError: the job is gone. Children that are gone are left out.
        """
        return self.client.execute_sync(self.client.operations.tree(self.id, depth, max_children))

    def __repr__(self) -> str:
        return f"<SyncJobHandle {self.id} of queue {self.client.name}>"
