"""Values that users type, and what is shown of them."""

from __future__ import annotations

import io
from pathlib import Path

import click
import pytest

from toril import errors
from toril.cli import output
from toril.cli.dev import environment, hints, manifests
from toril.cli.dev.session import client_names
from toril.cli.dev.tasks import Task
from toril.cli.job import DurationMs, JsonData
from toril.cli.output import ExitCode
from toril.specs.jobqueue import parse_job_queue

EXAMPLE = Path(__file__).parents[3] / "examples" / "zettanote"


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("30", 30_000),
        ("0", 0),
        ("500ms", 500),
        ("1.5s", 1500),
        ("5m", 300_000),
        ("1.5h", 5_400_000),
        ("1d", 86_400_000),
    ],
)
def test_lengths_of_time(text: str, ms: int) -> None:
    assert DurationMs().convert(text, None, None) == ms


@pytest.mark.parametrize("text", ["", "-1", "5 m", "1e3", "5w", "ms", "٣"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no length of time"):
        DurationMs().convert(text, None, None)


def test_json_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.json").write_text('{"a": "ä"}')
    monkeypatch.setattr("sys.stdin", io.StringIO("[1]"))
    convert = JsonData().convert
    assert convert('{"a": 1}', None, None) == {"a": 1}
    assert convert(f"@{tmp_path}/data.json", None, None) == {"a": "ä"}
    assert convert("-", None, None) == [1]
    with pytest.raises(click.BadParameter, match="the text is not JSON"):
        convert("{", None, None)
    with pytest.raises(click.BadParameter, match="No such file"):
        convert("@none", None, None)


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (errors.InvalidSpecError("spec.x", "no"), ExitCode.USAGE),
        (errors.SettingsError("no"), ExitCode.USAGE),
        (errors.RedisUnavailableError(errors.RedisReason.CONNECTION_REFUSED, "no"), ExitCode.UNREACHABLE),
        (errors.RedisUnavailableError(errors.RedisReason.AUTH_FAILED, "no"), ExitCode.NOT_PERMITTED),
        (errors.WrongKeyTypeError("no"), ExitCode.CONFLICT),
        (errors.JobNotFoundError("no"), ExitCode.NOT_FOUND),
        (errors.ResultTimeoutError("no"), ExitCode.TIMEOUT),
        (errors.JobFailedError("7", "no"), ExitCode.FAILED),
    ],
)
def test_exit_codes(problem: errors.TorilError, code: ExitCode) -> None:
    assert output.exit_code_of(problem) == code


def test_text_from_outside_cannot_steer_the_terminal() -> None:
    assert output.printable("a\x1b[2Jb\tc\nd") == "a�[2Jb c d"


def test_hints_are_commands_that_fit_and_show_no_password() -> None:
    spec = manifests.load([EXAMPLE]).queues[0].spec
    lines = list(hints.how_to_add(spec, Task("page-save", {"pageId": "it's"}), "redis://me:hunter2@host:1/0"))
    assert any(
        line.endswith("""--data '{"pageId": "it'"'"'s"}' --redis redis://USER:PASSWORD@host:1/0""") for line in lines
    )
    assert any(line.startswith("  node -e '") and "page-save" in line for line in lines)
    assert "hunter2" not in "".join(lines)
    assert any("NAME being that of a task" in line for line in hints.how_to_add(spec, None, "redis://host"))


def test_a_workers_environment() -> None:
    spec = manifests.load([EXAMPLE]).queues[0].spec
    outer = {"TORIL_REDIS_PASSWORD": "hunter2", "HOME": "/h", "PYTHONPATH": "/mine"}
    found = environment.build_environment(spec, "redis://here:1/0", [EXAMPLE], outer)
    assert found["HOME"] == "/h"
    assert found["TORIL_REDIS_URL"] == "redis://here:1/0"
    assert (found["TORIL_QUEUE"], found["TORIL_CONCURRENCY"], found["TORIL_HTTP_PORT"]) == ("page-save", "5", "0")
    assert found["PYTHONPATH"].split(":")[0] == str(EXAMPLE)
    assert found["PYTHONPATH"].split(":")[-1] == "/mine"
    assert "TORIL_REDIS_PASSWORD" not in found


def test_names_of_connections() -> None:
    reply = b"id=3 addr=1:2 name=bull:cA==:w:p-1 lib-name=x db=0\nid=4 addr=1:3 name= lib-name=y db=0\n"
    assert client_names(reply) == {"bull:cA==:w:p-1", ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://$(USER_NAME)@db/$(TORIL_QUEUE)", "postgres://app@db/mail"),
        ("$$(USER_NAME)", "$(USER_NAME)"),
        ("$$$(USER_NAME)", "$app"),
        ("$(LATER) $(USER_NAME", "$(LATER) $(USER_NAME"),
        ("$USER_NAME costs 5$", "$USER_NAME costs 5$"),
        ("$()", "$()"),
        ("$(EMPTY)", ""),
    ],
)
def test_variables_in_a_variable(text: str, expected: str) -> None:
    assert environment.expand(text, {"USER_NAME": "app", "TORIL_QUEUE": "mail", "EMPTY": ""}) == expected


def test_a_manifests_variables_see_those_before_them_and_the_operators() -> None:
    env = [
        {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "LINE", "value": "$(TORIL_QUEUE) $(LATER) $(SECRET)"},
        {"name": "LATER", "value": "$(LINE)!"},
    ]
    worker = {"env": env, "processor": {"python": {"module": "jobs"}}}
    spec = parse_job_queue(
        {"apiVersion": "toril.dev/v1alpha1", "kind": "JobQueue", "metadata": {"name": "q"},
         "spec": {"redis": {"host": "r"}, "worker": worker}}
    )  # fmt: skip
    found = environment.build_environment(spec, "redis://here:1/0", [EXAMPLE], {})
    assert (found["LINE"], found["LATER"]) == ("q $(LATER) $(SECRET)", "q $(LATER) $(SECRET)!")
    assert "SECRET" not in found
