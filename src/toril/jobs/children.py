"""What became of a job's children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Children:
    """A job's children as of one moment. Each is named by its key in Redis, such as `bull:resize:7`."""

    values: Mapping[str, Any]
    """Return values of the completed children."""
    ignored: Mapping[str, str]
    """Reasons of the failed children whose failure lets the parent run."""
    failed: Sequence[str]
    """Failed children whose failure fails the parent."""
    pending: Sequence[str]
    """Children that the parent waits for. A child that failed without a failure policy stays here."""
