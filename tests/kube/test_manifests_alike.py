"""`toril dev` accepts what a cluster accepts, and refuses what a cluster refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.job_queues import JobQueues
from support.manifest_corpus import CASES, with_its_queue
from toril.cli import schemas
from toril.cli.dev import manifests


def refusal_here(manifest: Mapping[str, Any], folder: Path) -> str:
    """What local mode says; empty when it takes the manifest."""
    (folder / "manifest.json").write_text(json.dumps({"kind": "List", "items": list(with_its_queue(manifest))}))
    try:
        manifests.load([folder])
    except manifests.ManifestError as refused:
        return str(refused)
    return ""


def refusal_there(queues: JobQueues, manifest: Mapping[str, Any]) -> str:
    """What the API server says; nothing is stored."""
    plural = schemas.PLURALS[manifest["kind"]]
    group_version = manifest["apiVersion"]
    path = f"/apis/{group_version}/namespaces/{queues.namespace}/{plural}?dryRun=All&fieldValidation=Strict"
    status, answer = queues.api.call("POST", path, dict(manifest))
    assert status in (201, 400, 404, 422), answer
    return "" if status == 201 else str(answer["message"])


@pytest.mark.parametrize("case", CASES)
def test_local_mode_and_a_cluster_are_of_one_mind(queues: JobQueues, tmp_path: Path, case: str) -> None:
    here, there = refusal_here(CASES[case], tmp_path), refusal_there(queues, CASES[case])
    assert bool(here) == bool(there), f"local mode: {here or 'accepted'}\ncluster: {there or 'accepted'}"


def rules(schema: Mapping[str, Any]) -> Iterator[str]:
    """The messages of a CRD's rules, without those about changes, which need an object that is there."""
    for key, value in schema.items():
        if key == "x-kubernetes-validations":
            yield from (rule["message"] for rule in value if "oldSelf" not in rule["rule"])
        elif isinstance(value, Mapping):
            yield from rules(value)


@pytest.mark.parametrize("plural", schemas.PLURALS.values())
def test_every_rule_of_the_crds_refuses_a_case(queues: JobQueues, plural: str) -> None:
    import yaml

    (version,) = yaml.safe_load(schemas.crd_text(plural))["spec"]["versions"]
    wanted = set(rules(version["schema"]["openAPIV3Schema"]))
    told = "\n".join(refusal_there(queues, case) for case in CASES.values())
    assert not [message for message in wanted if not re.search(re.escape(message), told)]
