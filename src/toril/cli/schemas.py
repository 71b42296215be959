"""The CRDs' own schemas, for checking manifests without a cluster as strictly as `kubectl apply` does."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from toril import errors
from toril.cli import kubernetes_rules
from toril.jobs import hints
from toril.specs import fields

GROUP = "toril.dev"
PLURALS = {"JobQueue": "jobqueues", "CronJobSchedule": "cronjobschedules"}
"""Kind → plural, as in the CRD's name."""


def crd_text(plural: str) -> str:
    """The CustomResourceDefinition of `plural` (`jobqueues`) as YAML.

    An installed package holds a copy of the repository's `crds/`; a checkout has the folder itself.
    """
    name = f"{plural}.{GROUP}.yaml"
    installed: Traversable = resources.files("toril.specs") / "crds" / name
    checkout = Path(__file__).parents[3] / "crds" / name
    return (installed if installed.is_file() else checkout).read_text()


def problems_of(manifest: Mapping[str, Any], plural: str) -> list[errors.InvalidSpecError]:
    """The problems of a manifest by field, as the API server finds them: types, ranges, unknown fields.

    The CEL rules of the CRD, which compare fields, are not checked here: `toril.specs` checks the same.
    """
    version = str(manifest.get("apiVersion", "")).rpartition("/")[2]
    validator = _validator(plural, version)
    found = sorted(validator.iter_errors(_without_nulls(manifest)), key=lambda problem: problem.json_path)
    return [each for problem in found for each in _explained(problem)]


def _without_nulls(value: Any) -> Any:
    """The value without fields that are null: the API server takes them as not given."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(part) for key, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


@functools.cache
def _validator(plural: str, version: str) -> Any:
    definition = yaml.safe_load(crd_text(plural))
    versions = {entry["name"]: entry for entry in definition["spec"]["versions"]}
    if version not in versions:
        raise errors.InvalidSpecError("apiVersion", f"must be {GROUP}/{' or '.join(sorted(versions))}")
    schema = versions[version]["schema"]["openAPIV3Schema"]
    return kubernetes_rules.Validator(_strict(schema, is_root=True))


def _strict(schema: Any, *, is_root: bool = False) -> Any:
    """A CRD schema as a JSON schema that also refuses unknown fields, like strict field validation."""
    if not isinstance(schema, Mapping):
        return schema
    strict: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            strict[key] = {name: _strict(part) for name, part in value.items()}
        elif key in ("items", "additionalProperties"):
            strict[key] = _strict(value)
        elif key in kubernetes_rules.RULES or (key != "default" and not key.startswith("x-")):
            strict[key] = value
    if schema.get("x-kubernetes-int-or-string"):
        strict["type"] = ["integer", "string"]
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in schema and not is_open:
        strict["additionalProperties"] = False
        if is_root:
            standard = {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": kubernetes_rules.METADATA,
            }
            strict["properties"] = {**strict["properties"], **standard, "status": True}
    return strict


def _explained(problem: jsonschema.ValidationError) -> Iterator[errors.InvalidSpecError]:
    """One error a field, with the path as it is written in YAML."""
    where = path_text(problem.absolute_path)
    schema: Any = problem.schema
    wanted: Any = problem.validator_value
    if problem.validator == "additionalProperties" and isinstance(problem.instance, Mapping):
        known = sorted(schema.get("properties", {}))
        for name in sorted(set(map(str, problem.instance)) - set(known)):
            yield errors.InvalidSpecError(_joined(where, name), f"unknown field; known here: {', '.join(known)}")
    elif problem.validator == "required" and isinstance(problem.instance, Mapping):
        for name in wanted:
            if name not in problem.instance:
                yield errors.InvalidSpecError(_joined(where, name), fields.wording("required"))
    elif str(problem.validator) in kubernetes_rules.RULES:
        yield errors.InvalidSpecError(where, problem.message)
    else:
        rule = str(problem.validator)
        hint = _hint(where, problem.instance) if rule in ("type", "pattern") else ""
        listed = ", ".join(map(str, wanted)) if isinstance(wanted, list) else wanted
        is_known = rule in fields.PROBLEMS
        yield errors.InvalidSpecError(
            where, fields.wording(rule, listed) + hint if is_known else f"breaks the rule {rule}"
        )


def _hint(where: str, value: Any) -> str:
    """What to write in the field instead; empty = there is no hint. Never shows the value."""
    if isinstance(value, str) and (of_url := hints.of_url(value)):
        return f": {of_url}"
    form = fields.form_of(where)
    return f": {form}" if form else ""


def path_text(parts: Any) -> str:
    """`["spec", "env", 0, "name"]` → `spec.env[0].name`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else _joined("", str(part)) if not text else f".{part}"
    return text


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
