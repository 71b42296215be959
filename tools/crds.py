"""Copy the CRDs from `crds/`, where they are written by hand, into the chart's templates.

A chart's own `crds/` folder would be simpler, but Helm never upgrades what is in it.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "crds"
TARGET = ROOT / "charts" / "toril" / "templates" / "crds"

HEAD = """\
{{- /* Made by `make crds` from crds/%s; change it there. */ -}}
{{- if .Values.crds.install }}
"""
METADATA = """\
metadata:
  labels:
    {{- include "toril.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""
TAIL = "{{- end }}\n"


def as_template(name: str, text: str) -> str:
    """The chart's template for a CRD.

    Args:
        name: of the source file, for the first line.
        text: its YAML; its metadata holds a name and nothing else, since labels and annotations are the chart's.
    """
    metadata = re.search(r"^metadata:\n((?: .*\n)*)", text, re.MULTILINE)
    if metadata is None or not re.fullmatch(r"  name: \S+\n", metadata.group(1)):
        raise ValueError(f"crds/{name}: metadata must hold a name and nothing else")
    before, after = text[: metadata.start()], text[metadata.start(1) :]
    return HEAD % name + _literal(before) + METADATA + _literal(after) + TAIL


def _literal(text: str) -> str:
    """Text that Helm renders as it stands, double braces included."""
    return re.sub(r"\{\{|\}\}", lambda braces: f'{{{{ "{braces.group()}" }}}}', text)


def rendered() -> dict[str, str]:
    """File name → contents of every template that `templates/crds` should hold, and no other."""
    return {source.name: as_template(source.name, source.read_text()) for source in sorted(SOURCE.glob("*.yaml"))}


def main() -> None:
    wanted = rendered()
    TARGET.mkdir(parents=True, exist_ok=True)
    for old in TARGET.glob("*.yaml"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text)
        print(f"crds: charts/toril/templates/crds/{name}")


if __name__ == "__main__":
    main()
