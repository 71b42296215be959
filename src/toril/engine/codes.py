"""The codes with which scripts say what they did to a job. The numbers are BullMQ's."""

from __future__ import annotations

import enum


class Code(enum.IntEnum):
    """Below 0: nothing was written for this job."""

    DONE = 0
    DONE_BEFORE = 1
    """The same call was carried out before."""
    NO_JOB = -1
    """There is no such job, or none any more."""
    NO_LOCK = -2
    """The job has no lock: it ran out."""
    OTHER_STATE = -3
    """The job is not in the state that the command needs: not active, not delayed, not failed."""
    PENDING_CHILDREN = -4
    """Children of the job have not ended."""
    NO_PARENT = -5
    """The job has no parent, or the parent does not exist."""
    OTHER_LOCK = -6
    """Another worker has locked the job."""
    OTHER_PARENT = -7
    """The job is another parent's child already."""
    OF_SCHEDULER = -8
    """The job is the next run of a job scheduler."""
    FAILED_CHILDREN = -9
    """Children of the job have failed."""
