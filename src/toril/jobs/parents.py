"""A job's link to its parent: the option `parent`, the job's field `parent`, and the arguments of scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toril import errors

FAILURE_POLICIES = {
    "failParentOnFailure": "fpof",
    "continueParentOnFailure": "cpof",
    "ignoreDependencyOnFailure": "idof",
    "removeDependencyOnFailure": "rdof",
}
"""BullMQ's option → its name in the stored `opts`: what the final failure of a job does to the job's parent. At most
one is true. With none, the parent stays in `waiting-children`."""


@dataclass(frozen=True, slots=True)
class ParentLink:
    """The parent of a job."""

    id: str
    queue: str
    """Prefix and name, as in `bull:reports`."""

    @classmethod
    def parse(cls, value: Any, path: str) -> ParentLink:
        """Read the option `parent`: `{id, queue}`. Raises InvalidOptionError."""
        if not isinstance(value, Mapping) or set(value) != {"id", "queue"}:
            raise errors.InvalidOptionError(path, "must be {id, queue}")
        for name, text in value.items():
            if not isinstance(text, str) or not text or not text.isprintable():
                raise errors.InvalidOptionError(f"{path}.{name}", "must be printable text and not empty")
        prefix, _, queue = value["queue"].rpartition(":")
        if not prefix or not queue:
            raise errors.InvalidOptionError(f"{path}.queue", "must be prefix and queue, such as 'bull:reports'")
        return cls(value["id"], value["queue"])

    @property
    def key(self) -> str:
        return f"{self.queue}:{self.id}"

    def to_option(self) -> dict[str, str]:
        return {"id": self.id, "queue": self.queue}

    def to_field(self, wire: Mapping[str, Any]) -> dict[str, Any]:
        """What the child's field `parent` holds. `wire`: the child's stored options, which hold the policy."""
        policies = {code: True for code in FAILURE_POLICIES.values() if wire.get(code)}
        return {"id": self.id, "queueKey": self.queue, **policies}
