"""Whatever users log, and however they set their logging up: no log call raises, and no line of the worker is lost."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from support import log_setup
from support.taken import taken_job
from toril.tasks.context import current_run
from toril.telemetry.logs import SafeHandler, TextFormatter
from toril.worker import logs


class Hostile:
    def __str__(self) -> str:
        raise SystemExit(1)

    __repr__ = __str__


class RunOf:
    """All that the log asks of a run."""

    def __init__(self) -> None:
        self.record = taken_job("9", name="send")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    written = io.StringIO()
    with log_setup.kept():
        logs.configure(written, queue="email", worker="w-1")
        yield written


@pytest.fixture
def in_a_job() -> Iterator[None]:
    token = current_run.set(RunOf())  # type: ignore[arg-type]
    yield
    current_run.reset(token)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    def refused(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refused) for line in stream.getvalue().splitlines()]


def deep() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


EXTRAS: dict[str, tuple[Any, Any]] = {
    "plain": (42, 42),
    "nested": ({"a": [1, None]}, {"a": [1, None]}),
    "a set": ({1}, "{1}"),
    "NaN": (float("nan"), "nan"),
    "hostile": (Hostile(), "<Hostile>"),
    "hostile inside": ([Hostile()], ["<Hostile>"]),
    "hostile key": ({Hostile(): 1}, "<dict>"),
    "circle": (circle(), "[[...]]"),
    "surrogate": ("\udcff", "\udcff"),
}


@pytest.mark.parametrize("kind", EXTRAS)
@pytest.mark.parametrize("key", ["value", "fields"])
def test_extra_fields_are_kept(stream: io.StringIO, in_a_job: None, kind: str, key: str) -> None:
    value, expected = EXTRAS[kind]
    logging.getLogger("shop").info("charged", extra={key: value})
    (line,) = lines(stream)
    assert line[key] == expected
    assert (line["event"], line["level"], line["logger"], line["job_id"]) == ("charged", "info", "shop", "9")


def test_what_is_nested_too_deep_is_text(stream: io.StringIO) -> None:
    logging.getLogger("shop").info("deep", extra={"value": deep(), "other": 1})
    (line,) = lines(stream)
    assert isinstance(line["value"], str)
    assert line["other"] == 1


def test_our_keys_win_and_theirs_are_kept_beside_them(stream: io.StringIO, in_a_job: None) -> None:
    theirs = {"job_id": "another", "level": "?", "ts": 1, "event": "e", "logger": "l", "queue": "q", "error": "theirs"}
    try:
        raise ValueError("ours")
    except ValueError:
        logging.getLogger("shop").exception("spoofed", extra=theirs)
    (line,) = lines(stream)
    assert (line["job_id"], line["level"], line["event"]) == ("9", "error", "spoofed")
    assert (line["logger"], line["queue"]) == ("shop", "email")
    assert line["error"].endswith("ValueError: ours")
    assert {key: line[f"extra_{key}"] for key in theirs} == theirs


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    ("message", "args"),
    [("%d jobs", ("seven",)), ("%s", (Hostile(),)), ("two %s", ("a", "b")), (Hostile(), ()), (deep(), ())],
)
def test_no_log_call_raises_and_no_line_is_lost(stream: io.StringIO, form: str, message: Any, args: Any) -> None:
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if isinstance(handler, SafeHandler)]  # without pytest's
    if form == "text":
        root.handlers[0].setFormatter(TextFormatter())
    logging.getLogger("shop").warning(message, *args, extra={"value": Hostile()}, stack_info=True)
    assert "<Hostile>" in stream.getvalue()
    assert "warning" in stream.getvalue()


def test_a_closed_stream_harms_nobody(stream: io.StringIO) -> None:
    stream.close()
    logging.getLogger("shop").error("nobody reads this")
    logging.getLogger("toril.worker").error("nor this")


# ---- users' own set-up

WITHOUT_US: dict[str, dict[str, Any]] = {
    "disables the others": {},
    "has no root": {"loggers": {"app": {"level": "DEBUG"}}},
    "takes the root's handlers away": {"root": {"handlers": []}},
    "asks less of its own": {"root": {"level": "ERROR"}},
    "names us and no handler": {"loggers": {"toril": {"level": "INFO"}}},
    "is incremental": {"incremental": True, "root": {"level": "CRITICAL"}},
}


@pytest.mark.parametrize("how", WITHOUT_US)
def test_our_lines_survive_the_users_configuration(stream: io.StringIO, how: str) -> None:
    before = logging.getLogger(f"made before one that {how}")
    logging.config.dictConfig({"version": 1, **WITHOUT_US[how]})
    logging.getLogger("toril.worker").info("still here")
    logging.getLogger("toril.queue").info("still here")
    assert [line["event"] for line in lines(stream)] == ["still here"] * 2
    assert before.disabled is (how != "is incremental")


def test_our_lines_survive_the_users_ini_file(stream: io.StringIO) -> None:
    text = """
[loggers]
keys=root
[handlers]
keys=
[formatters]
keys=
[logger_root]
level=WARNING
handlers=
"""
    logging.config.fileConfig(io.StringIO(text))
    logging.getLogger("toril.worker").info("still here")
    assert [line["event"] for line in lines(stream)] == ["still here"]


def test_the_users_handlers_get_our_lines_which_say_which_job(stream: io.StringIO) -> None:
    theirs = io.StringIO()
    handler = {"class": "logging.StreamHandler", "stream": theirs, "formatter": "plain"}
    logging.config.dictConfig({
        "version": 1,
        "formatters": {"plain": {"format": "%(levelname)s %(message)s"}},
        "handlers": {"theirs": handler},
        "root": {"handlers": ["theirs"]},
    })  # fmt: skip
    from toril.worker import reporter

    reporter._log(logging.WARNING, "job failed", {"job_id": "7", "job_name": "send", "error": "no such address"})
    assert theirs.getvalue() == "WARNING job failed: send 7: no such address\n"
    assert stream.getvalue() == ""


def test_what_users_say_of_our_loggers_holds(stream: io.StringIO) -> None:
    logging.config.dictConfig({"version": 1, "loggers": {"toril.worker": {"level": "ERROR"}}})
    logging.getLogger("toril.worker").warning("not asked for")
    logging.getLogger("toril.queue").warning("asked for")
    logging.getLogger("toril.queue").disabled = True
    logging.getLogger("toril.queue").warning("switched off")
    assert [line["event"] for line in lines(stream)] == ["asked for"]


def test_people_see_extra_fields_and_whole_errors(stream: io.StringIO, in_a_job: None) -> None:
    try:
        raise KeyError("my own mistake")
    except KeyError:
        record = logging.getLogger("shop").makeRecord(
            "shop", logging.ERROR, "f", 1, "charged", (), sys.exc_info(), extra={"user_id": 42}
        )
    text = TextFormatter(lambda: {"job_id": "9"}).format(record)
    assert re.search(r"error: charged \[9\] user_id=42\nTraceback", text)
    assert text.endswith("KeyError: 'my own mistake'")
