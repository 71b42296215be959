"""Manifests are read as kubectl reads them, and refused with file, object and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from toril.cli.dev import manifests

GOOD = """
apiVersion: toril.dev/v1alpha1
kind: JobQueue
metadata: {name: NAME}
spec:
  redis: {url: "redis://redis:6379"}
  worker: {processor: {python: {module: jobs}}}
"""


KEEP = "such as {count: 100}; {count: 0} keeps none, as `true` does in BullMQ; without the field all are kept"


def good(name: str = "mail") -> str:
    return GOOD.replace("NAME", name)


def problems_of(folder: Path, text: str) -> list[str]:
    """What is said about one file, without the folder's name."""
    (folder / "q.yaml").write_text(text)
    with pytest.raises(manifests.ManifestError) as refused:
        manifests.load([folder])
    return [problem.replace(f"{folder}/", "").replace(str(folder), "DIR") for problem in refused.value.problems]


def test_the_example_is_accepted() -> None:
    loaded = manifests.load([Path(__file__).parents[3] / "examples" / "zettanote"])
    queues = [queue.spec.queue_name for queue in loaded.queues]
    assert queues == ["page-save", "image-upload", "image-cleanup", "task-reminder"]
    assert [schedule.spec.pattern for schedule in loaded.schedules] == ["0 */6 * * *", "*/5 * * * *"]


def test_folders_lists_and_other_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(good("one") + "---\n" + good("two") + "---\n")
    items = '{"kind": "List", "items": [{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}]}'
    (tmp_path / "b.json").write_text(items)
    (tmp_path / "notes.txt").write_text("{")
    loaded = manifests.load([tmp_path])
    assert [queue.spec.name for queue in loaded.queues] == ["one", "two"]
    assert loaded.ignored == ("Secret/s",)


def test_a_null_field_counts_as_not_given(tmp_path: Path) -> None:
    (tmp_path / "q.yaml").write_text(good() + "  suspend: null\n")
    assert manifests.load([tmp_path]).queues[0].spec.is_suspended is False


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            good().replace("worker:", "wroker:"),
            [
                "q.yaml: JobQueue/mail: spec.worker: is required",
                "q.yaml: JobQueue/mail: spec.wroker: unknown field; known here: defaultJobOptions, deletionPolicy, "
                "globalConcurrency, pausedLayout, prefix, queueName, redis, replicas, scaling, sizeLimit, suspend, "
                "worker",
            ],
            id="unknown field",
        ),
        pytest.param(
            good() + "  scaling: {minReplicas: 5, maxReplicas: 2}\n",
            ["q.yaml: JobQueue/mail: spec.scaling.minReplicas: minReplicas must not exceed maxReplicas"],
            id="fields that contradict",
        ),
        pytest.param(
            good() + "  queueName: 'a:b'\n",
            [r"q.yaml: JobQueue/mail: spec.queueName: must match ^[^:\x00-\x1f\x7f]+$"],
            id="queue name",
        ),
        pytest.param(
            good() + "  scaling: {maxReplicas: many}\n",
            ["q.yaml: JobQueue/mail: spec.scaling.maxReplicas: must be of type integer"],
            id="type",
        ),
        pytest.param(
            good().replace("redis://redis:6379", "postgres://me:hunter2@db/jobs"),
            [
                r"q.yaml: JobQueue/mail: spec.redis.url: must match ^rediss?://[^\s?#]+([?]db=[0-9]+)?$: names a "
                "PostgreSQL, in which BullMQ 6 can keep its queues; Toril speaks Redis only: give redis://host:port/db "
                "of the Redis that holds the queue"
            ],
            id="PostgreSQL",
        ),
        pytest.param(
            good().replace("redis://redis:6379", "redis:6379"),
            [
                r"q.yaml: JobQueue/mail: spec.redis.url: must match ^rediss?://[^\s?#]+([?]db=[0-9]+)?$: "
                "redis://host:port/db, or rediss://… for TLS, without user and password"
            ],
            id="no URL",
        ),
        pytest.param(
            good() + "  defaultJobOptions: {removeOnComplete: 100, removeOnFail: true, backoff: 5000}\n",
            [
                f"q.yaml: JobQueue/mail: spec.defaultJobOptions.{name}: must be of type object: {form}"
                for name, form in (
                    ("backoff", "such as {type: fixed, delay: 5000}, milliseconds"),
                    ("removeOnComplete", KEEP),
                    ("removeOnFail", KEEP),
                )
            ],
            id="BullMQ's short forms",
        ),
        pytest.param(
            good().replace("v1alpha1", "v9"),
            ["q.yaml: JobQueue/mail: apiVersion: must be toril.dev/v1alpha1"],
            id="version",
        ),
        pytest.param(
            good("My_Queue"),
            ["q.yaml: JobQueue/My_Queue: metadata.name: must be lower-case letters, digits, '-' and '.'"],
            id="object name",
        ),
        pytest.param(good() + "  suspend: true\n  suspend: false\n", ["q.yaml:9:3: not YAML: suspend is given twice"]),
        pytest.param("kind: [", ["q.yaml:2:1: not YAML: did not find expected node content"], id="not YAML"),
        pytest.param("- 1\n", ["q.yaml: holds a document that is no Kubernetes object"], id="no object"),
        pytest.param("kind: Secret\n", ["DIR: no JobQueue found"], id="no queue"),
        pytest.param(
            good("a") + "  queueName: mail\n---\n" + good("mail"),
            ["q.yaml: JobQueue/mail: spec.queueName: 'mail' is worked by JobQueue/a already"],
            id="two for one queue",
        ),
        pytest.param(
            good() + "---\n" + good(), ["q.yaml: JobQueue/mail: is already in q.yaml"], id="two of one name"
        ),
    ],
)  # fmt: skip
def test_what_a_cluster_refuses_is_refused(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert problems_of(tmp_path, text) == expected


def test_refusals_never_show_the_value(tmp_path: Path) -> None:
    for url in ("redis://me:hunter2@redis", "http://me:hunter2@redis"):
        (problem,) = problems_of(tmp_path, good().replace("redis://redis:6379", url))
        assert "spec.redis.url" in problem
        assert "hunter2" not in problem


def test_all_problems_at_once_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(good().replace("kind: JobQueue", "kind: JobQueue\nspek: 1"))
    with pytest.raises(manifests.ManifestError) as refused:
        manifests.load([tmp_path / "none.yaml", tmp_path / "bad.yaml"])
    missing, wrong = refused.value.problems
    assert missing == f"{tmp_path}/none.yaml: no such file or folder"
    assert wrong.startswith(f"{tmp_path}/bad.yaml: JobQueue/mail: spek: unknown field; known here: apiVersion, ")


SCHEDULE = """
apiVersion: toril.dev/v1alpha1
kind: CronJobSchedule
metadata: {name: NAME}
spec:
  queueRef: {name: mail}
  schedule: "0 2 * * *"
"""


def schedule(name: str = "nightly") -> str:
    return SCHEDULE.replace("NAME", name)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            schedule().replace("name: mail", "name: post"),
            "spec.queueRef.name: there is no JobQueue 'post' in these manifests",
        ),
        (schedule() + "  every: 1000\n", "spec: exactly one of schedule and every must be given"),
        (schedule() + "  jitterSeconds: 5\n", "spec.jitterSeconds: unknown field; known here: endDate, every"),
        (schedule().replace("0 2", "61 2"), "spec.schedule: minute '61'"),
        (schedule() + "  timeZone: Europe/Atlantis\n", "spec.timeZone: 'Europe/Atlantis' is no time zone"),
        (
            schedule("one") + "  schedulerId: x\n---\n" + schedule("nightly") + "  schedulerId: x\n",
            "spec.schedulerId: 'x' is that of CronJobSchedule/one already",
        ),
    ],
)
def test_schedules_that_a_cluster_would_refuse_or_complain_of(tmp_path: Path, text: str, problem: str) -> None:
    (told,) = problems_of(tmp_path, good() + "---\n" + text)
    assert told.startswith(f"q.yaml: CronJobSchedule/nightly: {problem}")
