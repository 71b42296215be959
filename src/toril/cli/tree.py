"""The command tree. A command's module is imported when the command is asked for, never for the list of commands."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import NamedTuple

import click

from toril import __version__
from toril.cli.output import ExitCode

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Entry(NamedTuple):
    """Where a command is, and the line that lists it."""

    module: str
    attribute: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "dev": Entry("toril.cli.dev.command", "dev", "Run JobQueue manifests here: own server, workers scaled from zero."),
    "job": Entry("toril.cli.job", "job", "Add jobs to a queue."),
    "worker": Entry("toril.cli.worker", "worker", "Run a worker in this terminal."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and summary and imports one when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="toril", message="%(prog)s %(version)s")
def toril() -> None:
    """Job queues in BullMQ's format, on your Redis: workers, jobs, and a local mode.

    Redis is found by --redis, else by TORIL_REDIS_URL or TORIL_REDIS_HOST, else by REDIS_URL or REDIS_HOST, else it is
    redis://localhost:6379.

    Exit codes: 0 done, 1 failed, 2 wrong usage or manifest, 3 not found, 4 in the way, 5 not permitted, 6 time over,
    69 Redis cannot be reached, 130 interrupted.
    """


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code. Our own errors pass through to `main`."""
    try:
        code = toril.main(arguments, prog_name="toril", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as problem:
        problem.show()
        return ExitCode.USAGE
    except click.ClickException as problem:
        problem.show()
        return ExitCode.USAGE
    except click.Abort:
        return ExitCode.INTERRUPTED
    return code if isinstance(code, int) else ExitCode.OK
