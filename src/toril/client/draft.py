"""Jobs that are checked and ready, but not added yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from toril.jobs.job import NewJob

if TYPE_CHECKING:
    from toril.client.connection import QueueClient

R_co = TypeVar("R_co", covariant=True)


@dataclass(slots=True)
class Draft(Generic[R_co]):
    """A job that is checked and ready, but not added yet: see `Queue.add_bulk`. R_co: what its function returns."""

    client: QueueClient
    """The client of the queue that the job is for."""
    job: NewJob
