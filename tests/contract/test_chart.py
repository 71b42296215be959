"""The chart agrees with what it stands on: values ↔ schema ↔ templates, CRDs, versions, images. Needs no Helm."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import crds

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "toril"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# Kubernetes' own types: the API server checks what is inside.
OPEN = {"global", "podSecurityContext", "securityContext", "affinity", "operator.resources.requests",
        "operator.resources.limits"}  # fmt: skip


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else schema


def schema_of(path: str) -> Mapping[str, Any]:
    """The schema of a value; raises KeyError for a path that the schema does not know."""
    schema: Mapping[str, Any] = SCHEMA
    for name in path.split("."):
        schema = resolved(schema["properties"][name])
    return schema


def schema_leaves(schema: Mapping[str, Any] = SCHEMA, path: str = "") -> Iterator[str]:
    """Every value that the schema knows and that holds no others."""
    for name, inner in schema["properties"].items():
        where = f"{path}.{name}".lstrip(".")
        if "properties" in resolved(inner):
            yield from schema_leaves(resolved(inner), where)
        else:
            yield where


def used_values() -> set[str]:
    """Every `.Values.a.b` in the templates."""
    texts = [file.read_text() for file in (CHART / "templates").rglob("*") if file.is_file()]
    return {found for text in texts for found in re.findall(r"\.Values\.([A-Za-z.]+[A-Za-z])", text)}


def test_the_versions_are_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    example = (ROOT / "examples" / "zettanote" / "Dockerfile").read_text()
    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert f"ARG WORKER_IMAGE=toril/worker:{version}\n" in example


def test_the_crds_are_copied_as_they_are() -> None:
    copies = {file.name: file.read_text() for file in (CHART / "templates" / "crds").iterdir()}
    assert copies == crds.rendered(), "run `make crds`"


def test_double_braces_in_a_crd_are_not_taken_for_a_template() -> None:
    text = "kind: X\nmetadata:\n  name: x\nspec:\n  about: as {{name}}\n"
    template = crds.as_template("x.yaml", text)
    assert '  about: as {{ "{{" }}name{{ "}}" }}\n' in template
    assert template.endswith("spec:\n  about: as {{ \"{{\" }}name{{ \"}}\" }}\n{{- end }}\n")  # fmt: skip


def test_a_crd_with_labels_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="a name and nothing else"):
        crds.as_template("x.yaml", "kind: X\nmetadata:\n  name: x\n  labels: {a: b}\nspec: {}\n")


def test_every_value_has_a_default_and_a_schema() -> None:
    documented = set()
    for path in schema_leaves():
        value: Any = VALUES
        for name in path.split("."):
            value = value.get(name, KeyError) if isinstance(value, Mapping) else KeyError
        if value is not KeyError:
            documented.add(path)
    assert set(schema_leaves()) - documented == {"global", "operator.resources.claims"}

    def check(values: Mapping[str, Any], path: str = "") -> None:
        for name, value in values.items():
            where = f"{path}.{name}".lstrip(".")
            if isinstance(value, Mapping) and where not in OPEN and "properties" in schema_of(where):
                check(value, where)
            else:
                schema_of(where)

    check(VALUES)


def test_the_templates_use_each_value_and_no_other() -> None:
    used = used_values()
    for path in used:
        schema_of(path)
    unused = {leaf for leaf in schema_leaves() if not any(f"{leaf}.".startswith(f"{path}.") for path in used)}
    assert unused == {"global"}


def test_the_schema_refuses_what_it_does_not_know() -> None:
    def check(schema: Mapping[str, Any], path: str) -> None:
        schema = resolved(schema)
        if schema.get("type") == "object" and path not in OPEN:
            assert "additionalProperties" in schema, path
            assert schema["additionalProperties"] is False or "properties" not in schema, path
        for name, inner in schema.get("properties", {}).items():
            check(inner, f"{path}.{name}".lstrip("."))

    check(SCHEMA, "")


@pytest.mark.parametrize("image", ["operator", "worker-image"])
def test_the_images_run_as_the_user_of_the_chart(image: str) -> None:
    dockerfile = (ROOT / image / "Dockerfile").read_text()
    assert re.findall(r"^USER (\d+)$", dockerfile, re.MULTILINE) == [str(VALUES["podSecurityContext"]["runAsUser"])]
