"""What became of a job's children."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Children:
    """A job's children as of one moment. Each is named by its key in Redis, such as `bull:resize:7`."""

    values: Mapping[str, Any]
    """What those returned that have completed."""
    ignored: Mapping[str, str]
    """Why those failed whose failure does not keep the parent from running."""
    failed: Sequence[str]
    """Those whose failure fails the parent."""
    pending: Sequence[str]
    """Those the parent still waits for; one that failed without a policy stays here."""
