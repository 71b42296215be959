"""Workers whose pods are deleted while they start: none lives on, and none takes a job."""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support import product, soak
from support.cluster import Cluster
from support.product import Redis
from support.waiting import wait_until

ADD_NAPS = Path(__file__).with_name("add_naps.py")
GONE_SECONDS = 150.0
"""Much less than the ten minutes of grace in which a worker that heard nothing would live on."""
SOON_SECONDS = 0.02
"""Between two looks for a pod that has just come to a moment."""
JOBS = 10
Pod = dict[str, Any]


def is_there(pod: Pod) -> bool:
    return True


def is_on_the_node(pod: Pod) -> bool:
    return "startTime" in pod["status"]


def is_running(pod: Pod) -> bool:
    return any("running" in each["state"] for each in pod["status"].get("containerStatuses") or ())


MOMENTS: tuple[Callable[[Pod], bool], ...] = (is_there, is_on_the_node, is_running)
"""In the first second or two of a pod; a worker takes jobs a moment after the last."""


def pods(cluster: Cluster, namespace: str) -> list[Pod]:
    found: list[Pod] = cluster.get("pods", "-n", namespace, "-l", "app.kubernetes.io/component=worker")["items"]
    return found


def wait_gone(cluster: Cluster, namespace: str, *, but: Callable[[Pod], bool] = lambda pod: False) -> None:
    def left() -> list[str]:
        return [pod["metadata"]["name"] for pod in pods(cluster, namespace) if not but(pod)]

    wait_until(lambda: not left(), "the workers to be gone", timeout_seconds=GONE_SECONDS, interval_seconds=0.3)


def start_queue(cluster: Cluster, namespace: str, workers: int) -> Redis:
    redis = Redis(cluster, namespace)
    manifest = product.naps_manifest(mode="Manual")
    manifest["spec"]["replicas"] = workers
    cluster.apply(manifest, namespace=namespace)
    return redis


def change(cluster: Cluster, namespace: str, spec: dict[str, Any]) -> None:
    patch = json.dumps({"spec": spec})
    cluster.kubectl("patch", "jq", "naps", "-n", namespace, "--type=merge", "-p", patch)


@pytest.mark.parametrize("rounds", soak.lengths(6, 20))
def test_pods_that_are_deleted_while_they_start(installed: Cluster, namespace: str, rounds: int) -> None:
    redis = start_queue(installed, namespace, 1)
    deleted: set[str] = set()

    def next_pod(moment: Callable[[Pod], bool]) -> str | None:
        """A pod that has come to this moment and was not deleted yet."""
        found = (pod for pod in pods(installed, namespace) if moment(pod))
        return next((pod["metadata"]["name"] for pod in found if pod["metadata"]["name"] not in deleted), None)

    for moment in itertools.islice(itertools.cycle(MOMENTS), rounds):
        what = f"the next pod, {moment.__name__}"
        name = wait_until(functools.partial(next_pod, moment), what, timeout_seconds=90, interval_seconds=SOON_SECONDS)
        assert name is not None
        installed.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")
        deleted.add(name)
    # The jobs come when only pods that are being deleted may be left.
    change(installed, namespace, {"replicas": 0})
    wait_until(
        lambda: all("deletionTimestamp" in pod["metadata"] for pod in pods(installed, namespace)),
        "every worker's pod to be on its way out",
        timeout_seconds=90,
    )
    add_jobs(installed, redis)
    wait_gone(installed, namespace)
    assert redis.cli("LLEN", "bull:naps:wait").strip() == str(JOBS)
    assert redis.cli("LLEN", "bull:naps:active").strip() == "0"
    assert redis.cli("ZCARD", "bull:naps:completed").strip() == "0"


def add_jobs(cluster: Cluster, redis: Redis) -> None:
    done = cluster.run([sys.executable, ADD_NAPS, "add", str(JOBS), "0"], env={"REDIS_URL": redis.url}, timeout=150)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rounds", soak.lengths(2, 10))
def test_two_changes_of_the_template_one_after_the_other(installed: Cluster, namespace: str, rounds: int) -> None:
    """The pods of the first one are deleted while they start; they must go, and those before them."""
    start_queue(installed, namespace, 2)

    def has(number: str, pod: Pod) -> bool:
        return {"name": "ROUND", "value": number} in pod["spec"]["containers"][0]["env"]

    for round_number in range(rounds):
        for half in ("first", "second"):
            number = f"{round_number}-{half}"
            change(installed, namespace, {"worker": {"env": [{"name": "ROUND", "value": number}]}})
            wait_until(
                lambda number=number: any(has(number, pod) for pod in pods(installed, namespace)),  # type: ignore[misc]
                f"a pod of {number}",
                timeout_seconds=90,
                interval_seconds=SOON_SECONDS,
            )
        wait_gone(installed, namespace, but=lambda pod, number=number: has(number, pod))  # type: ignore[misc]
        assert len(pods(installed, namespace)) >= 2
