"""Where the rules of time zones come from, for the log: programs with other rules compute other times."""

from __future__ import annotations

import zoneinfo
from pathlib import Path


def describe() -> str:
    """The release of the time zone database and its place, such as `2026f of the package tzdata`.

    As `zoneinfo` looks for zones: the system's folders first (`PYTHONTZPATH`), then the package.
    """
    for folder in zoneinfo.TZPATH:
        if (Path(folder) / "UTC").exists():
            return f"{_release_of(Path(folder))} of {folder}"
    try:
        import tzdata
    except ImportError:
        return "none: install the package tzdata"
    return f"{tzdata.IANA_VERSION} of the package tzdata"


def _release_of(folder: Path) -> str:
    """What the first line of `tzdata.zi` says; not all systems have the file."""
    try:
        with (folder / "tzdata.zi").open(encoding="ascii") as lines:
            first = lines.readline()
    except (OSError, ValueError):
        return "an unknown release"
    _, mark, release = first.partition("# version ")
    return release.strip() if mark else "an unknown release"
