"""What the log says of the rules of time zones."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
import tzdata

from toril.telemetry import zone_data


@pytest.fixture(autouse=True)
def own_path() -> Iterator[None]:
    before = zoneinfo.TZPATH
    yield
    zoneinfo.reset_tzpath(before)


def test_without_folders_the_package_is_named() -> None:
    zoneinfo.reset_tzpath(())
    assert zone_data.describe() == f"{tzdata.IANA_VERSION} of the package tzdata"


@pytest.mark.parametrize(
    ("first_line", "release"),
    [("# version 2031b\n", "2031b"), ("R A 1916\n", "an unknown release"), (None, "an unknown release")],
)
def test_a_folder_tells_its_release(tmp_path: Path, first_line: str | None, release: str) -> None:
    (tmp_path / "UTC").touch()
    if first_line is not None:
        (tmp_path / "tzdata.zi").write_text(first_line)
    zoneinfo.reset_tzpath((str(tmp_path / "not-there"), str(tmp_path)))
    assert zone_data.describe() == f"{release} of {tmp_path}"
