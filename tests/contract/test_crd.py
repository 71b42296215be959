"""The CRDs, `toril.specs` and the examples agree: fields, defaults, and the rules about schemas that we keep."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import manifest_corpus
from toril import errors
from toril.cli import schemas
from toril.specs import fields, jobqueue
from toril.specs.cron_job_schedule import parse_cron_job_schedule
from toril.specs.jobqueue import parse_job_queue

ROOT = Path(__file__).parents[2]
CRDS = {plural: yaml.safe_load(schemas.crd_text(plural)) for plural in schemas.PLURALS.values()}
ROOTS = {plural: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for plural, crd in CRDS.items()}
SPECS = {plural: root["properties"]["spec"] for plural, root in ROOTS.items()}
REQUIRED = {"redis": {"host": "r"}, "worker": {"processor": {"python": {"module": "m"}}}}
EACH_CRD = pytest.mark.parametrize("plural", CRDS)


def nodes(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield from nodes(schema[key], f"{path}[]")


def filled(schema: Mapping[str, Any], given: Any) -> Any:
    """What the API server makes of `given`: defaults set, from the outside in."""
    if not isinstance(given, Mapping):
        return given
    whole = dict(given)
    for name, inner in schema.get("properties", {}).items():
        if name not in whole and "default" in inner:
            whole[name] = inner["default"]
        if name in whole:
            whole[name] = filled(inner, whole[name])
    return whole


def manifest(spec: Mapping[str, Any], kind: str = "JobQueue") -> dict[str, Any]:
    return {"apiVersion": "toril.dev/v1alpha1", "kind": kind, "metadata": {"name": "q"}, "spec": spec}


def parse(document: Mapping[str, Any]) -> Any:
    return (parse_job_queue if document["kind"] == "JobQueue" else parse_cron_job_schedule)(document)


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("JobQueue", REQUIRED),
        ("CronJobSchedule", {"queueRef": {"name": "q"}, "every": 5000}),
        ("CronJobSchedule", {"queueRef": {"name": "q"}, "schedule": "0 2 * * *"}),
    ],
)
def test_a_spec_means_the_same_before_and_after_the_servers_defaults(kind: str, spec: Mapping[str, Any]) -> None:
    whole = filled(SPECS[schemas.PLURALS[kind]], spec)
    assert whole != spec
    assert parse(manifest(spec, kind)) == parse(manifest(whole, kind))


def test_the_defaults_are_the_documented_ones() -> None:
    scaling = filled(SPECS["jobqueues"], REQUIRED)["scaling"]
    assert scaling == {
        "mode": "Auto",
        "minReplicas": 0,
        "maxReplicas": 10,
        "pollingIntervalSeconds": 5,
        "cooldownSeconds": 60,
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": 30},
        },
    }


@EACH_CRD
def test_every_list_says_how_it_is_merged_and_has_a_limit(plural: str) -> None:
    for path, schema in nodes(ROOTS[plural]):
        if schema.get("type") == "array":
            assert "x-kubernetes-list-type" in schema, path
            assert "maxItems" in schema, path


@EACH_CRD
def test_every_text_of_the_spec_has_a_limit(plural: str) -> None:
    """Without limits the API server refuses rules about a field as too expensive."""
    for path, schema in nodes(SPECS[plural]):
        if schema.get("type") == "string" and schema.get("format") != "date-time":
            assert "maxLength" in schema or "enum" in schema, path


@EACH_CRD
def test_every_field_of_the_spec_is_described_or_an_old_acquaintance(plural: str) -> None:
    pods = (
        ".worker.env[]",
        ".worker.envFrom[]",
        ".worker.tolerations",
        ".worker.nodeSelector",
        ".secretKeyRef.",
    )
    for path, schema in nodes(SPECS[plural]):
        if path.endswith("[]") or any(part in path for part in (*pods, ".behavior.", ".resources.")):
            continue
        assert "description" in schema or path.endswith((".enabled", ".maxReplicas", ".type")), path


@EACH_CRD
def test_every_word_of_the_schema_is_one_that_kubernetes_knows(plural: str) -> None:
    """A comma in a description without quotes makes a word of its second half."""
    known = {"type", "format", "description", "default", "enum", "pattern", "required", "properties", "items"}
    known |= {"additionalProperties", "minimum", "maximum"}
    for path, schema in nodes(ROOTS[plural]):
        unknown = {word for word in schema.keys() - known if not word.startswith(("x-kubernetes-", "min", "max"))}
        assert unknown == set(), path


@EACH_CRD
def test_the_crd_can_be_applied_from_the_client_side(plural: str) -> None:
    """`kubectl apply` keeps a copy in an annotation of at most 256 KiB."""
    assert len(yaml.safe_dump(CRDS[plural], default_flow_style=True)) < 100 * 1024


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("examples/*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_examples_are_accepted(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    for document in documents:
        assert schemas.problems_of(document, schemas.PLURALS[document["kind"]]) == []
        parse(document)


def test_the_options_of_a_schedules_jobs_are_those_of_a_queues() -> None:
    """But for the delay: a slot's job has its slot's."""
    of_queue = SPECS["jobqueues"]["properties"]["defaultJobOptions"]["properties"]
    of_schedule = SPECS["cronjobschedules"]["properties"]["jobTemplate"]["properties"]["opts"]["properties"]
    assert {name: schema for name, schema in of_queue.items() if name != "delay"} == of_schedule


def test_an_unknown_field_is_named_with_its_path() -> None:
    wrong = manifest({**REQUIRED, "scaling": {"maxReplica": 3}})
    (problem,) = schemas.problems_of(wrong, "jobqueues")
    assert problem.field == "spec.scaling.maxReplica"


def test_a_mistake_is_worded_alike_by_the_schema_and_by_the_spec() -> None:
    """`toril dev` meets the CRD's schema first, the operator only the typed spec."""
    worded = [text for rule, text in fields.PROBLEMS.items() if rule != "pattern"] + [fields.NO_TIME]
    rules = [re.escape(text).replace(re.escape("{wanted}"), ".*") for text in worded]
    compared = []
    for case, document in manifest_corpus.CASES.items():
        if document["apiVersion"] != jobqueue.API_VERSION:
            continue
        found = {each.field: each.problem for each in schemas.problems_of(document, schemas.PLURALS[document["kind"]])}
        try:
            parse(document)
        except errors.InvalidSpecError as problem:
            by_schema = found.get(problem.field)
            if by_schema is not None and any(re.fullmatch(rule, by_schema) for rule in rules):
                compared.append((case, by_schema, problem.problem))
    assert len({by_schema for _, by_schema, _ in compared}) > 8
    assert [each for each in compared if each[1] != each[2]] == []
