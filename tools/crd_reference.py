"""Write docs/jobqueue.md and docs/cronjobschedule.md: every field of a CRD, with its type, default and description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Page:
    """The page of one kind, and what stands on it beyond the fields."""

    plural: str
    kind: str
    units: str
    """The sentence about units."""
    example: str
    """The smallest useful object, YAML."""
    more: str = ""
    """Markdown about the behaviour of the kind."""

    @property
    def crd(self) -> Path:
        return ROOT / "crds" / f"{self.plural}.toril.dev.yaml"

    @property
    def path(self) -> Path:
        return ROOT / "docs" / f"{self.kind.lower()}.md"

    def render(self) -> str:
        """The whole page."""
        return render(self, yaml.safe_load(self.crd.read_text()))


PAGES = (
    Page(
        plural="jobqueues",
        kind="JobQueue",
        units="Blocks with BullMQ's\nnames have BullMQ's units, mostly milliseconds; all other lengths of time end in "
        "`Seconds`.",
        example="""\
apiVersion: toril.dev/v1alpha1
kind: JobQueue
metadata:
  name: page-save
spec:
  redis: {url: "redis://redis:6379"}
  worker:
    image: registry.example/pages:1.0
    processor:
      python: {module: jobs}
""",
    ),
    Page(
        plural="cronjobschedules",
        kind="CronJobSchedule",
        units="`every`,\n`offset` and `jobTemplate.opts` have BullMQ's names and units, mostly milliseconds.",
        example="""\
apiVersion: toril.dev/v1alpha1
kind: CronJobSchedule
metadata:
  name: image-cleanup
spec:
  queueRef: {name: image-cleanup}
  schedule: "0 */6 * * *"
""",
        more="""
## How it behaves

- It is a job scheduler of BullMQ's: `getJobSchedulers()` lists it, and a slot's job has the id
  `repeat:<schedulerId>:<milliseconds>`, so that a slot has at most one job. The job of a slot is made when the slot
  before has come, and waits as a delayed job. A worker makes it when it takes a job of the schedule, BullMQ's as well
  as ours. The operator makes it at the slot if no worker has, and scales a queue at zero up for it.
- Slots that were missed for up to a minute, such as during a restart of the operator, each get a job. When neither a
  worker nor the operator ran for longer, the one job that was delayed runs late, and the next slot follows after now.
- The run of `runOnCreate` has the id `toril-run-<uid>-<generation>`, and `status.runOnCreateGeneration` records that
  it was added. It is added twice only if the operator is killed between the two writes, and the job has ended and is
  not kept.
- `suspend` removes the job scheduler and its delayed job; resuming makes it again, with the count of `status`, so
  that `limit` goes on. Jobs that wait or run are not touched.
- Deleting the object removes the job scheduler and its delayed job, and leaves all other jobs. The finalizer
  `toril.dev/cleanup` holds the object until then: for a minute at most if Redis cannot be reached, for one attempt if
  the JobQueue is gone too. An Event `CleanupAbandoned` names what could not be removed. Without an operator the
  object stays: delete schedules before you remove Toril, or take the finalizer off.
- When a BullMQ client changes the job scheduler of this `schedulerId`, the operator writes the CronJobSchedule's values
  back: at the next slot, and every five minutes.
""",
    ),
)

HEAD = """\
<!-- Made by `make crds` from crds/{plural}.toril.dev.yaml; change it there. -->

# {kind}

{description}

`kubectl explain {singular}.spec` shows the same on a cluster. A field that is not listed here is refused, by
kubectl's strict validation, which is its default. A value that breaks a rule is refused, too; the message names the
field. {units}

The smallest useful one:

```yaml
{example}```
{more}"""
AS_IN_PODS = ("env", "envFrom", "resources", "tolerations", "nodeSelector", "secretKeyRef")
"""Fields whose inside is Kubernetes' own and not listed again."""


def render(page: Page, crd: Mapping[str, Any]) -> str:
    """A page out of a CRD."""
    version = crd["spec"]["versions"][0]
    root = version["schema"]["openAPIV3Schema"]
    spec, status = root["properties"]["spec"], root["properties"]["status"]
    head = HEAD.format(
        plural=page.plural, kind=page.kind, description=root["description"], singular=page.kind.lower(),
        units=page.units, example=page.example, more=page.more,
    )  # fmt: skip
    parts = [head, _section("spec", spec, is_flat=True)]
    parts += [_section(f"spec.{name}", inner) for name, inner in spec["properties"].items() if "properties" in inner]
    parts += [_section("status", status), _columns(page, version["additionalPrinterColumns"])]
    return "\n".join(parts)


def _section(path: str, schema: Mapping[str, Any], *, is_flat: bool = False) -> str:
    """A heading, a table of the fields at every depth (of the first only, if flat), and the rules about them."""
    lines = [f"## `{path}`\n", schema["description"].rstrip() + "\n", "| field | value | meaning |", "|---|---|---|"]
    rules = [_rule(path, rule) for rule in schema.get("x-kubernetes-validations", ())]
    for name, inner, is_required in _fields(schema, is_flat):
        lines.append(f"| `{name}` | {_value(inner, is_required)} | {_cell(inner.get('description', ''))} |")
        if not is_flat:
            rules += [_rule(f"{path}.{name}", rule) for rule in inner.get("x-kubernetes-validations", ())]
    return "\n".join([*lines, *(["", *rules] if rules else [])]) + "\n"


def _fields(schema: Mapping[str, Any], is_flat: bool) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    """(path below the schema, its schema, whether it must be given). Of twins, only the first is opened."""
    opened: dict[str, Mapping[str, Any]] = {}
    for name, inner in schema["properties"].items():
        is_required = name in schema.get("required", ())
        below = inner.get("items", inner)
        twin = next((other for other, seen in opened.items() if seen == below), None)
        if twin is not None:
            yield name, {**inner, "description": f"As `{twin}`."}, is_required
            continue
        yield name, inner, is_required
        if is_flat or "properties" not in below or name in AS_IN_PODS or set(below["properties"]) == {"secretKeyRef"}:
            continue
        opened[name] = below
        suffix = "[]" if "items" in inner else ""
        for path, field, is_needed in _fields(below, is_flat):
            yield f"{name}{suffix}.{path}", field, is_needed


def _rule(path: str, rule: Mapping[str, Any]) -> str:
    return f"- `{path}{rule.get('fieldPath', '')}`: {rule['message']}."


def _value(schema: Mapping[str, Any], is_required: bool) -> str:
    """The type, and the default or whether the field is required."""
    value = schema.get("default")
    if is_required:
        return f"{_type(schema)}, required"
    if value is None or isinstance(value, dict):
        return _type(schema)
    return f"{_type(schema)}; default `{str(value).lower() if isinstance(value, bool) else value}`"


def _type(schema: Mapping[str, Any]) -> str:
    """The type in a few words, with the values or bounds that are allowed."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "whole number or text"
    kind = {"integer": "whole number", "string": "text", "boolean": "true or false", "array": "list"}
    words = kind.get(schema["type"], schema["type"])
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if highest is not None:
        return f"{words}, {lowest or 0} to {highest}"
    return f"{words}, {lowest} or more" if lowest else words


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _columns(page: Page, columns: Sequence[Mapping[str, Any]]) -> str:
    names = [f"`{each['name']}`" + (" (with `-o wide`)" if each.get("priority") else "") for each in columns]
    return f"## Columns of `kubectl get {page.plural}`\n\n{', '.join(names)}.\n"


def main() -> None:
    for page in PAGES:
        page.path.write_text(page.render())
        print(f"crds: {page.path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
