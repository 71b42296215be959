"""Time zones by the names that BullMQ takes: those of Node, and of the date library of BullMQ's cron parser.

Pure but for `zoneinfo`, which reads the zones' files."""

from __future__ import annotations

import functools
import re
import zoneinfo
from datetime import UTC, timedelta, timezone, tzinfo

from toril import errors

_OFFSET = re.compile(r"utc([+-])([0-9]{1,2})(?::([0-9]{2}))?")
_BARE_OFFSET = re.compile(r"([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?")
_OF_PROCESS = frozenset(("local", "system", "default"))
_NO_ZONES = re.compile(r"(factory|localtime|posixrules)|(posix|right)/.*", re.IGNORECASE)
"""Files in the zone folders of some systems that Node does not know as zones."""
_OLDER_NAMES = {
    "ACT": "Australia/Darwin", "AET": "Australia/Sydney", "AGT": "America/Argentina/Buenos_Aires",
    "ART": "Africa/Cairo", "AST": "America/Anchorage", "BET": "America/Sao_Paulo", "BST": "Asia/Dhaka",
    "CAT": "Africa/Harare", "CNT": "America/St_Johns", "CST": "America/Chicago", "CTT": "Asia/Shanghai",
    "EAT": "Africa/Addis_Ababa", "ECT": "Europe/Paris", "IET": "America/Indiana/Indianapolis", "IST": "Asia/Kolkata",
    "JST": "Asia/Tokyo", "MIT": "Pacific/Apia", "NET": "Asia/Yerevan", "NST": "Pacific/Auckland",
    "PLT": "Asia/Karachi", "PNT": "America/Phoenix", "PRT": "America/Puerto_Rico", "PST": "America/Los_Angeles",
    "SST": "Pacific/Guadalcanal", "VST": "Asia/Ho_Chi_Minh", "US/Pacific-New": "America/Los_Angeles",
    "Canada/East-Saskatchewan": "America/Regina",
}  # fmt: skip
"""Names that Node's ICU knows and the time zone database does not."""


def find(name: str, path: str = "tz") -> tzinfo:
    """The zone of a caller's name: a name of the time zone database in any case, or `UTC+2`, `UTC-3:30`.

    Raises:
        InvalidOptionError: Node knows no such zone, or the name depends on the process or on the version of Node.
    """
    if name.lower() in _OF_PROCESS:
        raise errors.InvalidOptionError(path, f"{name!r} is another zone in each process: name one")
    if _BARE_OFFSET.fullmatch(name):
        raise errors.InvalidOptionError(path, f"{name!r} is not known to Node 20: write UTC{name}")
    return find_stored(name, path)


def find_stored(name: str, path: str = "tz") -> tzinfo:
    """The zone of a stored series. The zone of BullMQ's process (no name, `local`) is taken as UTC.

    Raises:
        InvalidOptionError: Node knows no such zone.
    """
    zone = _find(name)
    if zone is None:
        raise errors.InvalidOptionError(path, f"{name[:60]!r} is no time zone that is known here")
    return zone


@functools.lru_cache(maxsize=256)
def _find(name: str) -> tzinfo | None:
    lowered = name.lower()
    if not name or lowered in _OF_PROCESS or lowered in ("utc", "gmt"):
        return UTC
    if match := _OFFSET.fullmatch(lowered) or _BARE_OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        if offset >= timedelta(days=1):
            return None
        return timezone(-offset if match[1] == "-" else offset)
    if _NO_ZONES.fullmatch(name):
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = _names().get(lowered)
        return zoneinfo.ZoneInfo(known) if known else None


@functools.cache
def _names() -> dict[str, str]:
    """Lower-case name → name, of all zones. The first call takes about 0.1 s, since each zone's file is opened."""
    older = {name.lower(): known for name, known in _OLDER_NAMES.items()}
    return older | {name.lower(): name for name in zoneinfo.available_timezones() if not _NO_ZONES.fullmatch(name)}
