"""What the chart makes of its values, rendered by the real Helm. Needs no cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import cluster_fixtures
from support.cluster_build import ensure_helm
from support.cluster_errors import UnavailableError
from toril.cli import schemas

CHART = Path(__file__).parents[2] / "charts" / "toril"
DIGEST = f"sha256:{'0f' * 32}"
Objects = dict[tuple[str, str, str], dict[str, Any]]
"""(kind, namespace or empty, name) → manifest."""


@pytest.fixture(scope="module")
def helm(request: pytest.FixtureRequest) -> Path:
    with cluster_fixtures.visible_output(request):
        try:
            return ensure_helm()
        except UnavailableError as error:
            pytest.skip(f"not run: {error}")


def run_helm(helm: Path, *args: str, check: bool = True) -> str:
    done = subprocess.run([helm, *args], capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stderr
        return done.stdout
    assert done.returncode != 0, "Helm took it"
    return done.stderr


def render(helm: Path, *values: str, release: str = "toril") -> Objects:
    """The manifests for `a.b=value` pairs."""
    sets = [f"--set={value}" for value in values]
    text = run_helm(helm, "template", release, str(CHART), "--namespace=toril-system", *sets)
    found = [manifest for manifest in yaml.safe_load_all(text) if manifest]
    objects = {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in found}
    assert len(objects) == len(found), "two objects of the same name"
    return objects


def deployment(objects: Objects) -> dict[str, Any]:
    return next(each for (kind, _, _), each in objects.items() if kind == "Deployment")


def container(objects: Objects) -> dict[str, Any]:
    (found,) = deployment(objects)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def operator_rules(objects: Objects) -> list[dict[str, Any]]:
    """The rules of the operator's own roles, without those that are for people."""
    return [
        rule
        for (kind, _, name), role in objects.items()
        if kind in ("ClusterRole", "Role") and not name.endswith(("-edit", "-view"))
        for rule in role["rules"]
    ]


def test_by_default_the_operator_looks_after_the_whole_cluster(helm: Path) -> None:
    objects = render(helm)
    assert set(objects) == {
        ("ServiceAccount", "toril-system", "toril"),
        ("ClusterRole", "", "toril"),
        ("ClusterRoleBinding", "", "toril"),
        ("ClusterRole", "", "toril-edit"),
        ("ClusterRole", "", "toril-view"),
        ("CustomResourceDefinition", "", "jobqueues.toril.dev"),
        ("CustomResourceDefinition", "", "cronjobschedules.toril.dev"),
        ("Deployment", "toril-system", "toril"),
    }
    main = container(objects)
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert main["image"] == f"toril/operator:{version}"
    assert main["args"] == [
        f"--worker-image=toril/worker:{version}",
        "--worker-image-pull-policy=IfNotPresent",
        "--log-level=info",
        "--http-port=8080",
    ]
    assert [each["name"] for each in main["env"]] == ["POD_NAMESPACE", "POD_NAME"]


@pytest.mark.requirement("T97")
def test_named_namespaces_get_a_role_each_and_the_cluster_none(helm: Path) -> None:
    objects = render(helm, "watch.namespaces={team-a,team-b}")
    roles = {key for key in objects if key[0].endswith(("Role", "Binding"))}
    assert roles == {
        ("ClusterRole", "", "toril-edit"),
        ("ClusterRole", "", "toril-view"),
        *((kind, namespace, "toril") for kind in ("Role", "RoleBinding") for namespace in ("team-a", "team-b")),
    }
    assert objects["RoleBinding", "team-b", "toril"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "toril", "namespace": "toril-system"}
    ]
    *rules, own = objects["Role", "team-a", "toril"]["rules"]
    *cluster_rules, cluster = render(helm)["ClusterRole", "", "toril"]["rules"]
    assert rules == cluster_rules
    # The one namespace whose uid tells whose the queues are.
    assert (own["resources"], own["resourceNames"], own["verbs"]) == (["namespaces"], ["team-a"], ["get"])
    assert (cluster["resources"], cluster["resourceNames"], cluster["verbs"]) == (
        ["namespaces"],
        ["kube-system"],
        ["get"],
    )
    assert "--namespaces=team-a,team-b" in container(objects)["args"]


def test_the_operator_may_do_no_more_than_it_does(helm: Path) -> None:
    rules = operator_rules(render(helm))
    granted = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {verb for _, resource, verb in granted if resource == "secrets"} == {"get"}
    assert not {verb for _, _, verb in granted} & {"*", "deletecollection", "escalate", "bind", "impersonate"}
    assert {resource for _, resource, verb in granted if verb == "delete"} == {"deployments"}
    assert {resource for _, resource, verb in granted if verb == "update"} == {"jobqueues/finalizers"}
    resources = {f"{resource}.{group}".rstrip(".") for group, resource, _ in granted}
    assert resources == {
        "jobqueues.toril.dev",
        "jobqueues/status.toril.dev",
        "jobqueues/finalizers.toril.dev",
        "cronjobschedules.toril.dev",
        "cronjobschedules/status.toril.dev",
        "deployments.apps",
        "deployments/scale.apps",
        "namespaces",
        "pods",
        "secrets",
        "events.events.k8s.io",
    }


def test_a_digest_wins_over_a_tag_and_a_registry_comes_first(helm: Path) -> None:
    objects = render(
        helm, "image.registry=localhost:5000", "image.tag=v9", f"image.digest={DIGEST}", "workerImage.tag=edge"
    )
    assert container(objects)["image"] == f"localhost:5000/toril/operator@{DIGEST}"
    assert "--worker-image=toril/worker:edge" in container(objects)["args"]


@pytest.mark.parametrize("plural", schemas.PLURALS.values())
@pytest.mark.parametrize("keep", [True, False])
def test_the_crds_are_the_sources_with_the_charts_metadata(helm: Path, keep: bool, plural: str) -> None:
    crd = render(helm, f"crds.keep={str(keep).lower()}")["CustomResourceDefinition", "", f"{plural}.toril.dev"]
    annotations = crd["metadata"].pop("annotations", {})
    crd["metadata"].pop("labels")
    assert crd == yaml.safe_load(schemas.crd_text(plural))
    assert annotations == ({"helm.sh/resource-policy": "keep"} if keep else {})


def test_what_is_switched_off_is_not_there(helm: Path) -> None:
    objects = render(
        helm, "crds.install=false", "rbac.create=false", "rbac.aggregate=false", "serviceAccount.create=false"
    )
    assert set(objects) == {("Deployment", "toril-system", "toril")}
    assert deployment(objects)["spec"]["template"]["spec"]["serviceAccountName"] == "default"


def test_a_service_for_metrics_selects_the_operator(helm: Path) -> None:
    objects = render(helm, "metrics.service.enabled=true")
    service = objects["Service", "toril-system", "toril-metrics"]["spec"]
    labels = deployment(objects)["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert [port["name"] for port in container(objects)["ports"]] == [service["ports"][0]["targetPort"]]


def test_the_rest_of_the_values_reaches_the_pod(helm: Path) -> None:
    objects = render(
        helm,
        "operator.allowSpecialAddresses=true",
        "operator.extraArgs={--more}",
        "operator.extraEnv[0].name=A",
        "operator.extraEnv[0].value=b",
        "imagePullSecrets[0].name=registry",
        "priorityClassName=high",
        "nodeSelector.disk=ssd",
        "tolerations[0].operator=Exists",
        "affinity.podAntiAffinity.any=1",
        "serviceAccount.name=other",
        "serviceAccount.annotations.a=b",
    )
    spec = deployment(objects)["spec"]["template"]["spec"]
    assert container(objects)["args"][-2:] == ["--allow-special-addresses", "--more"]
    assert container(objects)["env"][-1] == {"name": "A", "value": "b"}
    wanted = {
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "high",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"any": 1}},
        "serviceAccountName": "other",
    }
    assert wanted.items() <= spec.items()
    assert objects["ServiceAccount", "toril-system", "other"]["metadata"]["annotations"] == {"a": "b"}
    assert objects["ClusterRoleBinding", "", "toril"]["subjects"][0]["name"] == "other"


def test_the_selector_stays_as_it_was_first_released(helm: Path) -> None:
    # Kubernetes refuses to change it: an upgrade from any version must find these three.
    assert deployment(render(helm, release="mine"))["spec"]["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "toril",
        "app.kubernetes.io/instance": "mine",
        "app.kubernetes.io/component": "operator",
    }


@pytest.mark.parametrize(
    ("value", "where", "what"),
    [
        ("replicas=2", "''", "replicas"),
        ("image.tagg=1", "'/image'", "tagg"),
        ("operator.logLevel=loud", "'/operator/logLevel'", "must be one of"),
        ("watch.namespaces={Team_A}", "'/watch/namespaces/0'", "Team_A"),
        ("crds.keep=maybe", "'/crds/keep'", "want boolean"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm: Path, value: str, where: str, what: str) -> None:
    message = run_helm(helm, "template", "toril", str(CHART), f"--set={value}", check=False)
    assert where in message
    assert what in message


def test_the_notes_name_what_is_there_and_a_valid_queue(helm: Path) -> None:
    notes = run_helm(helm, "install", "mine", str(CHART), "--dry-run=client", "--set=watch.namespaces={team-a}")
    notes = notes.partition("\nNOTES:\n")[2]
    assert "rollout status deployment/mine-toril" in notes
    assert "kubectl --namespace team-a get jobqueues" in notes
    queue = yaml.safe_load(notes.partition("<<YAML\n")[2].partition("  YAML\n")[0])
    assert schemas.problems_of(queue, "jobqueues") == []
