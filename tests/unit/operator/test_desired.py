from __future__ import annotations

import json
from typing import Any

import pytest

from support import operator_objects
from toril_operator.jobqueue import desired


def build(*, replicas: int | None = None, **spec: Any) -> dict[str, Any]:
    observed = operator_objects.observe(spec=spec)
    assert observed.spec is not None
    owner = desired.owner_reference("toril.dev/v1alpha1", "JobQueue", "email", "uid-1")
    return desired.build_deployment(
        observed.spec, owner, image="toril/worker:1", image_pull_policy="Always", replicas=replicas
    )


def pod(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = build(**spec)["spec"]["template"]["spec"]
    return found


def worker(**fields: Any) -> dict[str, Any]:
    return {"processor": {"python": {"module": "app.jobs"}}, **fields}


def environment(**spec: Any) -> dict[str, Any]:
    return {entry["name"]: entry for entry in pod(**spec)["containers"][0]["env"]}


def test_replicas_are_left_out_unless_given() -> None:
    assert "replicas" not in build()["spec"]
    assert build(replicas=0)["spec"]["replicas"] == 0


def test_the_selector_says_whose_pods_and_no_more() -> None:
    built = build()
    assert built["metadata"]["name"] == "jq-email"
    assert built["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/managed-by": "toril-operator",
        "toril.dev/jobqueue": "email",
    }
    assert built["spec"]["selector"]["matchLabels"].items() <= built["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.requirement("T79")
def test_the_pod_keeps_to_the_restricted_standard() -> None:
    built = pod()
    assert built["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert built["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert built["automountServiceAccountToken"] is False
    assert built["enableServiceLinks"] is False
    assert built["shareProcessNamespace"] is True


def test_the_grace_period_covers_the_drain() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 615
    assert pod(worker=worker(drain={"maxSeconds": 0}))["terminationGracePeriodSeconds"] == 15


def test_an_image_of_ones_own_has_its_own_pull_policy() -> None:
    ours = pod()["containers"][0]
    assert (ours["image"], ours["imagePullPolicy"]) == ("toril/worker:1", "Always")
    theirs = pod(worker=worker(image="app:3"))["containers"][0]
    assert theirs["image"] == "app:3"
    assert "imagePullPolicy" not in theirs
    assert pod(worker=worker(image="app:3", imagePullPolicy="Never"))["containers"][0]["imagePullPolicy"] == "Never"


@pytest.mark.parametrize(
    ("redis", "expected"),
    [
        ({"url": "rediss://r:1/2"}, {"TORIL_REDIS_URL": {"value": "rediss://r:1/2"}}),
        (
            {"urlFrom": {"secretKeyRef": {"name": "s", "key": "u"}}},
            {"TORIL_REDIS_URL": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "u"}}}},
        ),
        (
            {
                "host": "r",
                "tls": {"enabled": True},
                "usernameFrom": {"secretKeyRef": {"name": "s", "key": "u", "optional": True}},
                "passwordFrom": {"secretKeyRef": {"name": "s", "key": "p"}},
            },
            {
                "TORIL_REDIS_HOST": {"value": "r"},
                "TORIL_REDIS_PORT": {"value": "6379"},
                "TORIL_REDIS_DB": {"value": "0"},
                "TORIL_REDIS_TLS": {"value": "true"},
                "TORIL_REDIS_USERNAME": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "u", "optional": True}}},
                "TORIL_REDIS_PASSWORD": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}},
            },
        ),
    ],
)
def test_every_part_of_redis_comes_from_its_own_source(redis: dict[str, Any], expected: dict[str, Any]) -> None:
    found = {name: entry for name, entry in environment(redis=redis).items() if name.startswith("TORIL_REDIS")}
    assert found == {name: {"name": name, **value} for name, value in expected.items()}


def test_certificates_are_files_in_the_pod_each_from_its_own_secret() -> None:
    certificates = {
        "caFrom": {"secretKeyRef": {"name": "authority", "key": "ca.crt"}},
        "certFrom": {"secretKeyRef": {"name": "client", "key": "tls.crt"}},
        "keyFrom": {"secretKeyRef": {"name": "client", "key": "tls.key"}},
        "serverName": "redis.internal",
    }
    for redis in ({"host": "r", "tls": {"enabled": True, **certificates}}, {"url": "rediss://r", "tls": certificates}):
        built = pod(redis=redis)
        variables = {name: entry.get("value") for name, entry in environment(redis=redis).items() if "_TLS_" in name}
        folder = "/etc/toril/redis-tls"
        assert variables == {
            "TORIL_REDIS_TLS_CA_FILE": f"{folder}/ca.pem",
            "TORIL_REDIS_TLS_CERT_FILE": f"{folder}/cert.pem",
            "TORIL_REDIS_TLS_KEY_FILE": f"{folder}/key.pem",
            "TORIL_REDIS_TLS_SERVER_NAME": "redis.internal",
        }
        mount = {"name": "toril-redis-tls", "mountPath": folder, "readOnly": True}
        assert mount in built["containers"][0]["volumeMounts"]
        (volume,) = (each for each in built["volumes"] if each["name"] == "toril-redis-tls")
        sources = [each["secret"] for each in volume["projected"]["sources"]]
        assert [(each["name"], each["items"]) for each in sources] == [
            ("authority", [{"key": "ca.crt", "path": "ca.pem"}]),
            ("client", [{"key": "tls.crt", "path": "cert.pem"}]),
            ("client", [{"key": "tls.key", "path": "key.pem"}]),
        ]
    only_a_name = {"host": "r", "tls": {"enabled": True, "serverName": "redis.internal"}}
    assert [each["name"] for each in pod(redis=only_a_name)["volumes"]] == ["tmp"]


def test_the_users_environment_comes_last_and_may_refer_to_ours() -> None:
    names = list(environment(worker=worker(env=[{"name": "A", "value": "$(TORIL_QUEUE)"}])))
    assert names[-1] == "A"
    assert environment()["TORIL_POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_a_worker_is_told_which_container_of_which_pod_it_is() -> None:
    told = environment()
    assert told["TORIL_POD_UID"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"
    assert told["TORIL_CONTAINER"]["value"] == pod()["containers"][0]["name"]


def test_what_the_user_says_of_the_pod_is_passed_on() -> None:
    built = pod(
        worker=worker(
            serviceAccountName="app",
            nodeSelector={"disk": "fast"},
            tolerations=[{"key": "k", "operator": "Exists"}],
            resources={"limits": {"memory": "1Gi"}},
            envFrom=[{"secretRef": {"name": "s"}}],
        )
    )
    assert built["serviceAccountName"] == "app"
    assert built["automountServiceAccountToken"] is True
    assert built["nodeSelector"] == {"disk": "fast"}
    assert built["tolerations"] == [{"key": "k", "operator": "Exists"}]
    assert built["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert built["containers"][0]["envFrom"] == [{"secretRef": {"name": "s"}}]


@pytest.mark.requirement("T109")
def test_the_same_spec_gives_the_same_text() -> None:
    options = {"lockDuration": 1000, "drainDelay": 3}
    turned = dict(reversed(options.items()))
    assert json.dumps(build(worker=worker(bullmq=options))) == json.dumps(build(worker=worker(bullmq=turned)))
