from __future__ import annotations

from typing import Any

import pytest

from toril_operator.object_cache import Key, Kind, ObjectCache, Seen

EMAIL, IMAGE = Key("team", "email"), Key("team", "image")


def manifest(key: Key, *, uid: str = "u1", version: int = 1, owner: str | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "namespace": key.namespace, "name": key.name, "uid": uid, "resourceVersion": str(version),
    }  # fmt: skip
    if owner:
        reference = {"apiVersion": "toril.dev/v1alpha1", "kind": "JobQueue", "name": owner, "controller": True}
        metadata["ownerReferences"] = [reference]
    return {"metadata": metadata}


def note(
    cache: ObjectCache, key: Key, kind: Kind = Kind.JOB_QUEUE, *, is_deleted: bool = False, **more: Any
) -> set[Key]:
    return cache.record(Seen(kind, key, manifest(key, **more), is_deleted))


def test_news_are_taken_in_and_older_news_dropped() -> None:
    cache = ObjectCache()
    assert note(cache, EMAIL, version=9) == {EMAIL}
    assert note(cache, EMAIL, version=10) == {EMAIL}
    assert note(cache, EMAIL, version=9) == set()
    assert cache.get(Kind.JOB_QUEUE, EMAIL) == manifest(EMAIL, version=10)


def test_a_new_object_of_the_same_name_counts_whatever_its_version() -> None:
    cache = ObjectCache()
    note(cache, EMAIL, version=10)
    assert note(cache, EMAIL, uid="u2", version=2) == {EMAIL}
    # The end of the first one comes late.
    note(cache, EMAIL, version=11, is_deleted=True)
    assert cache.get(Kind.JOB_QUEUE, EMAIL) == manifest(EMAIL, uid="u2", version=2)


def test_a_deployment_concerns_its_job_queue() -> None:
    cache = ObjectCache()
    assert note(cache, Key("team", "jq-email"), Kind.DEPLOYMENT, owner="email") == {EMAIL}
    assert note(cache, Key("team", "theirs"), Kind.DEPLOYMENT) == set()


@pytest.mark.requirement("T55")
def test_a_full_list_tells_what_came_changed_and_went_unseen() -> None:
    cache = ObjectCache()
    came, changed, same, went = (Key("team", name) for name in ("came", "changed", "same", "went"))
    for key in (changed, same, went):
        note(cache, key, version=1)
    before = cache.versions(Kind.JOB_QUEUE)
    listed = [manifest(came, version=5), manifest(changed, version=6), manifest(same, version=1)]
    assert cache.replace(Kind.JOB_QUEUE, listed, known_before=before) == {came, changed, went}
    assert sorted(cache.keys(Kind.JOB_QUEUE)) == [came, changed, same]
    assert cache.get(Kind.JOB_QUEUE, changed) == manifest(changed, version=6)


@pytest.mark.requirement("T55")
def test_an_object_made_anew_unseen_is_another() -> None:
    cache = ObjectCache()
    note(cache, EMAIL, uid="u1", version=9)
    before = cache.versions(Kind.JOB_QUEUE)
    assert cache.replace(Kind.JOB_QUEUE, [manifest(EMAIL, uid="u2", version=12)], known_before=before) == {EMAIL}
    assert cache.get(Kind.JOB_QUEUE, EMAIL) == manifest(EMAIL, uid="u2", version=12)


def test_a_full_list_ends_what_it_does_not_have() -> None:
    cache = ObjectCache()
    note(cache, EMAIL)
    note(cache, IMAGE)
    before = cache.versions(Kind.JOB_QUEUE)
    listed = [manifest(EMAIL, version=5)]
    assert cache.replace(Kind.JOB_QUEUE, listed, known_before=before) == {EMAIL, IMAGE}
    assert cache.keys(Kind.JOB_QUEUE) == [EMAIL]


def test_what_came_while_the_list_was_read_stays() -> None:
    cache = ObjectCache()
    before = cache.versions(Kind.JOB_QUEUE)
    note(cache, IMAGE, version=7)
    cache.replace(Kind.JOB_QUEUE, [], known_before=before)
    assert cache.keys(Kind.JOB_QUEUE) == [IMAGE]


def test_an_old_list_does_not_bring_an_old_object_back() -> None:
    cache = ObjectCache()
    note(cache, EMAIL, version=7)
    assert cache.replace(Kind.JOB_QUEUE, [manifest(EMAIL, version=3)], known_before={}) == set()
    assert cache.get(Kind.JOB_QUEUE, EMAIL) == manifest(EMAIL, version=7)


@pytest.mark.requirement("T55", "T63")
def test_a_deployment_that_a_list_ends_concerns_its_job_queue() -> None:
    cache = ObjectCache()
    key = Key("team", "jq-email")
    note(cache, key, Kind.DEPLOYMENT, owner="email")
    before = cache.versions(Kind.DEPLOYMENT)
    assert cache.replace(Kind.DEPLOYMENT, [], known_before=before) == {EMAIL}


def schedule(name: str, queue: str, scheduler_id: str | None = None, version: int = 1) -> Seen:
    key = Key("team", name)
    found = manifest(key, uid=f"uid-{name}", version=version)
    found["spec"] = {"queueRef": {"name": queue}, **({"schedulerId": scheduler_id} if scheduler_id else {})}
    return Seen(Kind.CRON_JOB_SCHEDULE, key, found)


def test_the_schedules_of_a_queue() -> None:
    cache = ObjectCache()
    one, two, other = schedule("one", "email"), schedule("two", "email"), schedule("other", "image")
    for seen in (one, two, other, schedule("one", "email", version=2)):
        assert cache.record(seen) == {seen.key}
    assert cache.schedules_of(EMAIL) == {one.key, two.key}
    cache.record(Seen(Kind.CRON_JOB_SCHEDULE, one.key, one.manifest, is_deleted=True))
    assert cache.schedules_of(EMAIL) == {two.key}
    cache.replace(Kind.CRON_JOB_SCHEDULE, [], known_before=cache.versions(Kind.CRON_JOB_SCHEDULE))
    assert cache.schedules_of(EMAIL) == cache.schedules_of(IMAGE) == set()


def test_a_schedule_concerns_those_with_the_same_scheduler() -> None:
    cache = ObjectCache()
    cache.record(schedule("one", "email", "shared"))
    cache.record(schedule("other", "email"))
    assert cache.record(schedule("two", "email", "shared")) == {Key("team", "one"), Key("team", "two")}
    assert cache.record(schedule("three", "email", "team.other")) == {Key("team", "other"), Key("team", "three")}


def pod(name: str, version: int, job_queue: str = "email", **metadata: Any) -> dict[str, Any]:
    labels = {"toril.dev/jobqueue": job_queue}
    return {
        "metadata": {
            "namespace": "shop", "name": name, "uid": name, "resourceVersion": str(version), "labels": labels,
            "managedFields": ["much"], **metadata,
        },
        "spec": {"containers": ["much"]},
        "status": {"phase": "Pending", "podIP": "10.0.0.1"},
    }  # fmt: skip


def test_pods_are_found_by_their_job_queue_and_only_what_is_needed_of_them_is_kept() -> None:
    cache = ObjectCache()
    key = Key("shop", "email")
    assert cache.record(Seen(Kind.POD, Key("shop", "a"), pod("a", 1))) == {key}
    cache.record(Seen(Kind.POD, Key("shop", "b"), pod("b", 2, "image")))
    cache.record(Seen(Kind.POD, Key("shop", "a"), pod("a", 3, deletionTimestamp="now")))
    (found,) = cache.pods_of(key)
    assert found["metadata"]["deletionTimestamp"] == "now"
    assert found["status"] == {"phase": "Pending"}
    assert "spec" not in found
    assert "managedFields" not in found["metadata"]
    assert cache.record(Seen(Kind.POD, Key("shop", "a"), pod("a", 4), is_deleted=True)) == {key}
    assert cache.pods_of(key) == []


def test_a_list_without_a_pod_concerns_its_job_queue() -> None:
    cache = ObjectCache()
    cache.record(Seen(Kind.POD, Key("shop", "a"), pod("a", 1)))
    concerned = cache.replace(Kind.POD, [], known_before=cache.versions(Kind.POD))
    assert concerned == {Key("shop", "email")}
    assert cache.pods_of(Key("shop", "email")) == []
