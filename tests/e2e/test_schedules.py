"""Schedules for a minute: on a queue that nobody works, on one that sleeps, and ZettaNote's own; the operator is killed
in between. All at once, since a minute is long."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import product
from support.cluster import Cluster
from support.product import Redis, ReplicaWatch
from support.waiting import wait_until

EVERY_MS = 5000
SECONDS = 60
READ_SLOTS = Path(__file__).with_name("read_slots.py")


def manifests(name: str, queue_name: str, mode: str) -> list[dict[str, Any]]:
    """A queue, and a schedule of every 5 s on it."""
    queue = product.naps_manifest(name, cooldownSeconds=30)
    queue["spec"]["queueName"] = queue_name
    queue["spec"]["worker"]["mode"] = mode
    schedule = {
        "apiVersion": "toril.dev/v1alpha1",
        "kind": "CronJobSchedule",
        "metadata": {"name": name},
        "spec": {"queueRef": {"name": name}, "every": EVERY_MS, "jobTemplate": {"name": "nap"}},
    }
    return [queue, schedule]


def look(cluster: Cluster, redis: Redis, queue: str, scheduler: str) -> dict[str, Any]:
    done = cluster.run([sys.executable, READ_SLOTS, queue, scheduler], env={"REDIS_URL": redis.url})
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kill_the_operator(cluster: Cluster) -> None:
    before = product.operator_pod(cluster)
    restarts = before["status"]["containerStatuses"][0]["restartCount"]
    product.kill_container(cluster, before)
    killed_at = time.monotonic()

    def is_back() -> bool:
        status = product.operator_pod(cluster)["status"]["containerStatuses"][0]
        return bool(status["restartCount"] > restarts and status["ready"])

    wait_until(is_back, "the operator to be back", timeout_seconds=120, interval_seconds=0.3)
    print(f"operator back {time.monotonic() - killed_at:.1f} s after its SIGKILL")


def zettanote(cluster: Cluster, namespace: str, redis: Redis) -> None:
    """Its schedules run when they are made, have their slots, and can be switched off."""
    for name, minutes in (("image-cleanup", 360), ("task-reminder", 5)):
        product.wait_condition(cluster, namespace, name, "Ready", "True", kind="cronjobschedule")
        uid = cluster.get("cronjobschedule", name, "-n", namespace)["metadata"]["uid"]
        run = f"toril-run-{uid}-1"

        def has_run(name: str = name, run: str = run) -> bool:
            return run in look(cluster, redis, name, f"{namespace}.{name}")["others"]

        wait_until(has_run, f"the first run of {name}", timeout_seconds=120, interval_seconds=0.5)
        print(f"{name}: {redis.cli('HGET', f'bull:{name}:{run}', 'returnvalue').strip()}")
        slots = look(cluster, redis, name, f"{namespace}.{name}")["slots"]
        assert slots
        assert {slot % (60_000 * minutes) for slot in slots} == {0}
        change = '{"spec": {"suspend": true}}'
        cluster.kubectl("patch", "cronjobschedule", name, "-n", namespace, "--type=merge", "-p", change)
        product.wait_condition(cluster, namespace, name, "Suspended", "True", kind="cronjobschedule")
        for part in ("repeat", "delayed"):
            wait_until(
                lambda key=f"bull:{name}:{part}": redis.cli("ZCARD", key).strip() == "0",  # type: ignore[misc]
                f"nothing in {part} of {name}", interval_seconds=0.3,
            )  # fmt: skip


@pytest.mark.requirement("T23", "Z-14", "Z-15", "Z-31")
def test_every_slot_has_its_job(installed: Cluster, namespace: str) -> None:
    redis = Redis(installed, namespace)
    schedules = list(yaml.safe_load_all((product.EXAMPLE / "schedules.yaml").read_text()))
    product.use_local_images(schedules)
    nobody, asleep = manifests("nobody", "nobody", "None"), manifests("asleep", "naps", "Managed")
    with ReplicaWatch(installed, namespace) as watch:
        installed.apply(*nobody, *asleep, *schedules, namespace=namespace)
        for name in ("nobody", "asleep"):
            product.wait_condition(installed, namespace, name, "Ready", "True", kind="cronjobschedule")
        began = time.monotonic()
        zettanote(installed, namespace, redis)
        kill_the_operator(installed)
        wait_until(lambda: time.monotonic() - began >= SECONDS, "the minute to be over", timeout_seconds=SECONDS)
        wanted = watch.of("asleep").wanted
        print(f"asleep: replicas {wanted}")
        assert wanted[0] == 0
        assert max(wanted) >= 1
    print(installed.kubectl("get", "cjs", "-n", namespace))

    found = look(installed, redis, "nobody", f"{namespace}.nobody")
    print(f"nobody: {len(found['slots'])} slots")
    check_slots(found)

    def all_done() -> bool:
        seen = look(installed, redis, "naps", f"{namespace}.asleep")
        return set(due(seen)) <= set(seen["completed"])

    wait_until(all_done, "every due job to complete", timeout_seconds=90, interval_seconds=0.5)
    found = look(installed, redis, "naps", f"{namespace}.asleep")
    print(f"asleep: {len(found['slots'])} slots, {len(found['completed'])} completed")
    check_slots(found)


def due(found: dict[str, Any]) -> list[int]:
    return [slot for slot in found["slots"] if slot < found["nowMs"] - 2000]


def check_slots(found: dict[str, Any]) -> None:
    """A job for every slot of the minute and for the next one, each made once, and none much later than its time."""
    slots = found["slots"]
    assert slots == list(range(slots[0], slots[-1] + 1, EVERY_MS))
    assert slots[-1] > found["nowMs"] - EVERY_MS
    assert slots[0] % EVERY_MS == 0
    assert len(slots) >= SECONDS * 1000 // EVERY_MS
    assert found["twice"] == []
