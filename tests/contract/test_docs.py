"""What the pages say is so: commands exist, manifests are accepted, code compiles, links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from prometheus_client.registry import Collector

from support import documents
from tools import crd_reference
from toril import errors
from toril.cli import schemas, tree
from toril.specs.cron_job_schedule import parse_cron_job_schedule
from toril.specs.jobqueue import parse_job_queue
from toril.worker import metrics as worker_metrics
from toril_operator import conditions
from toril_operator import metrics as operator_metrics

ROOT = documents.ROOT
PAGES = documents.pages()
SHELL = documents.all_blocks("sh", "bash", "console")
YAML = documents.all_blocks("yaml")
PYTHON = documents.all_blocks("python")
TARGETS = set(re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
RUN_ELSEWHERE = {
    # Programs of commands that a test of another layer runs, or that only prepare the ground.
    "cd", "git", "export", "source", "npm", "node", "pip", "kubectl", "helm", "docker", "python", "python3", "bash",
    ".venv/bin/python", ".venv/bin/pytest", "redis-cli",
}  # fmt: skip


def check_command(arguments: list[str]) -> None:
    """Parse a `toril` command line as the program would, and run nothing. Raises click's own errors."""
    command: click.Command = tree.toril
    name, rest = "toril", list(arguments)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"there is no command {name!r}"
        command = found
    try:
        command.make_context(name, rest)
    except click.exceptions.Exit as done:
        # `--help` and `--version` have nothing more to check.
        assert done.exit_code == 0


def test_there_are_pages_and_blocks_to_check() -> None:
    assert ROOT / "README.md" in PAGES
    assert SHELL
    assert YAML
    assert PYTHON


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_exist(block: documents.Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for words in documents.commands(block):
        while "=" in words[0]:
            words.pop(0)
        program = words[0].rpartition("/")[2] if words[0].endswith("/toril") else words[0]
        if program == "make":
            assert set(words[1:]) & TARGETS, f"make: {words[1:]}"
            assert {word for word in words[1:] if "=" not in word} <= TARGETS
        elif program == "toril":
            check_command(words[1:])
        elif program.startswith((".ci/", "tools/")):
            assert (ROOT / program).is_file()
        else:
            assert program in RUN_ELSEWHERE, f"nothing here runs {program!r}"
        for word in words[1:]:
            if word.startswith(("tools/", "examples/", "charts/", "tests/", ".ci/")):
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_of_make_that_are_mentioned_exist(page: Path) -> None:
    assert set(re.findall(r"`make ([a-z0-9-]+)", page.read_text())) <= TARGETS


@pytest.mark.parametrize("block", YAML, ids=str)
def test_manifests_are_accepted(block: documents.Block) -> None:
    for document in yaml.safe_load_all(block.text):
        if (plural := schemas.PLURALS.get(document.get("kind"))) is not None:
            assert schemas.problems_of(document, plural) == []
            (parse_job_queue if plural == "jobqueues" else parse_cron_job_schedule)(document)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block: documents.Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", crd_reference.PAGES, ids=lambda page: page.plural)
def test_the_page_of_a_kinds_fields_is_that_of_its_crd(page: crd_reference.Page) -> None:
    assert page.path.read_text() == page.render(), "run `make crds`"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [(["job", "add", "q"], "Missing parameter: name"), (["job", "add", "q", "n", "--dely", "5"], "No such option")],
)
def test_a_wrong_command_would_be_noticed(arguments: list[str], problem: str) -> None:
    with pytest.raises(click.UsageError, match=problem):
        check_command(arguments)


def section(page: str, heading: str) -> str:
    """The text below a second-level heading of a page in docs/."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2]
    assert text, heading
    return text.partition("\n## ")[0]


@pytest.mark.requirement("Z-42")
@pytest.mark.parametrize(
    "cause",
    [
        "worker is killed",
        "after the job's effect and before its end",
        "is frozen, or its event loop is blocked",
        "SIGTERM",
        "Redis is away",
        "reply was lost",
        "attempt fails",
    ],
)
def test_the_docs_say_when_a_job_runs_again(cause: str) -> None:
    assert "](docs/at-least-once.md)" in (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", section("at-least-once.md", "When a job runs twice"), re.MULTILINE)
    assert [what_follows for what_happens, what_follows in rows if cause in what_happens]


def families(collector: Collector) -> Iterator[tuple[str, ...]]:
    """Name, type and labels of everything that is exposed, as Prometheus writes the name."""
    for family in collector.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        kind = "gauge" if family.type == "info" else family.type
        seen = sorted({name for sample in family.samples for name in sample.labels})
        labels = vars(family).get("_labelnames") or seen
        yield (family.name + suffix, kind, *(label for label in labels if label != "le"))


def listed_metrics(heading: str) -> set[tuple[str, ...]]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", section("metrics.md", heading), re.MULTILINE)
    return {(name, kind, *re.findall(r"`(\w+)`", labels)) for name, kind, labels in rows}


def test_the_workers_metrics_are_those_of_the_page() -> None:
    assert listed_metrics("Worker") == set(families(worker_metrics.Metrics({}, dict)))


def test_the_operators_metrics_are_those_of_the_page() -> None:
    metrics = operator_metrics.Metrics()
    # What has labels shows them only when it has counted something.
    metrics.reconciles.labels(kind="JobQueue", result="ok").inc()
    metrics.decisions.labels(direction="up", limited_by="Backlog").inc()
    metrics.kopf_restarts.labels(reason="LoginError").inc()
    assert listed_metrics("Operator") == set(families(metrics.registry))


def test_the_conditions_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "conditions.md").read_text()
    assert re.findall(r"^## `(\w+)`$", text, re.MULTILINE) == list(conditions.Type)


def test_the_reasons_of_conditions_are_those_of_the_page() -> None:
    text = (ROOT / "docs" / "conditions.md").read_text()
    listed = re.findall(r"^\| (?:True|False|Unknown)[^|]* \| `(\w+)` \|", text, re.MULTILINE)
    assert {*listed, conditions.Reason.PENDING} == {*conditions.Reason, *errors.RedisReason}
    told_of_redis = re.findall(r"`(\w+)` \|", section("conditions.md", "`RedisReachable`"))
    assert set(errors.RedisReason) <= set(told_of_redis)
