"""Release and place of the time zone database, for the log: with another release, slots may be at other times."""

from __future__ import annotations

import zoneinfo
from pathlib import Path


def describe() -> str:
    """The release of the time zone database and its place, such as `2026f of the package tzdata`.

    In the order of `zoneinfo`: the folders of `zoneinfo.TZPATH` (`PYTHONTZPATH`), then the package `tzdata`.
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
    """The release in the first line of `tzdata.zi`; not all systems have the file."""
    try:
        with (folder / "tzdata.zi").open(encoding="ascii") as lines:
            first = lines.readline()
    except (OSError, ValueError):
        return "an unknown release"
    _, mark, release = first.partition("# version ")
    return release.strip() if mark else "an unknown release"
