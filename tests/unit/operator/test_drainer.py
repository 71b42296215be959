"""Which workers are flagged, by what is known of their pods."""

from __future__ import annotations

from typing import Any

from toril_operator.jobqueue.drainer import terminating


def pod(name: str, phase: str | None, deleted: str | None = "2030-01-01T00:00:00Z") -> dict[str, Any]:
    status = {} if phase is None else {"status": {"phase": phase}}
    return {"metadata": {"name": name, "deletionTimestamp": deleted}, **status}


def test_pods_that_are_being_deleted_and_may_still_run() -> None:
    pods = [
        pod("new", None),
        pod("pending", "Pending"),
        pod("running", "Running"),
        pod("lost", "Unknown"),
        pod("done", "Succeeded"),
        pod("failed", "Failed"),
        pod("serving", "Running", deleted=None),
    ]
    assert terminating(pods) == {"new", "pending", "running", "lost"}
