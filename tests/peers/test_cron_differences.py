"""The table of docs/job-schedulers.md: where BullMQ 5, BullMQ 6 and we part, as the parsers say themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from support.cron_corpus import milliseconds
from support.documents import ROOT
from support.node_peer import NodePeer
from toril import errors
from toril.jobs.cron_dialect import Dialect
from toril.jobs.schedule import Schedule

HEAD = "| pattern | zone | after (UTC) | BullMQ 5 | BullMQ 6 | Toril, of a caller | Toril, stored by 5 / by 6 |"
PAGE = ROOT / "docs" / "job-schedulers.md"
SEED = "some-series"
DIFFERENCES = (
    # What is read apart.
    ("0 0 1-31 * MON", "UTC", "2026-09-01T12:00"),
    ("0 0 20 * 1-7", "UTC", "2026-09-01T12:00"),
    ("0 0 20 * TUE#4", "UTC", "2026-09-01T12:00"),
    ("0 0 * * 4/2", "UTC", "2026-09-05T12:00"),
    ("0 0 * * 2-7/4", "UTC", "2026-09-05T12:00"),
    # What one version refuses.
    ("*/2,*/3 * * * *", "UTC", "2026-09-01T12:00"),
    ("0 0 * * 5-7,0", "UTC", "2026-09-01T12:00"),
    ("? * * * *", "UTC", "2026-09-01T12:00"),
    ("0 0 31 4 1", "UTC", "2026-09-01T12:00"),
    ("@annually", "UTC", "2026-09-01T12:00"),
    ("@weekdays", "UTC", "2026-09-01T12:00"),
    ("@weekends", "UTC", "2026-09-01T12:00"),
    ("@minutely", "UTC", "2026-09-01T12:00"),
    ("@secondly", "UTC", "2026-09-01T12:00"),
    ("H 12 * * *", "UTC", "2026-09-01T12:00"),
    # Clocks that are changed at midnight, by half an hour or by two hours.
    ("10 0 * * *", "Africa/Cairo", "2026-04-23T12:00"),
    ("10 0 * * *", "America/Havana", "2026-03-07T12:00"),
    ("20 0 * * *", "Atlantic/Azores", "2026-10-24T12:00"),
    ("25 1 * * *", "Antarctica/Troll", "2026-03-28T12:00"),
    ("0 2 * * *", "Australia/Lord_Howe", "2027-04-03T12:00"),
)


def shown(times: Any) -> str:
    if not isinstance(times, list) or not times:
        return "no time" if times is None or "loop limit" in str(times) else "refused"
    moment = datetime.fromtimestamp(times[0] / 1000, UTC)
    return moment.strftime("%m-%d %H:%M:%S" if moment.second else "%m-%d %H:%M")


def ours(pattern: str, tz: str, after_ms: int, writer: str = "") -> str:
    repeat = {"pattern": pattern, "tz": tz}
    try:
        schedule = Schedule.from_stored(repeat, Dialect(writer), SEED) if writer else Schedule.from_bullmq(repeat)
        slot = schedule.next_slot_ms(after_ms, after_ms)
    except errors.InvalidOptionError:
        return "refused"
    return shown(slot if slot is None else [slot])


async def test_the_page_tells_where_the_versions_and_we_part(nodes: Callable[[str], NodePeer]) -> None:
    cases = [[pattern, tz, milliseconds(after), 1, SEED] for pattern, tz, after in DIFFERENCES]
    older, newer = [await nodes(version).request("cron", cases=cases) for version in ("5", "6")]
    lines = [HEAD, "|---|---|---|---|---|---|---|"]
    for (pattern, tz, after), old, new in zip(DIFFERENCES, older, newer, strict=True):
        after_ms = milliseconds(after)
        caller = ours(pattern, tz, after_ms)
        stored = [ours(pattern, tz, after_ms, writer) for writer in ("5", "6")]
        cells = [shown(old), shown(new), caller]
        assert len({*cells, *stored}) > 1, f"{pattern} {tz} is no difference"
        told = stored[0] if stored[0] == stored[1] else " / ".join(stored)
        lines.append(f"| `{pattern}` | {tz} | {after[5:].replace('T', ' ')} | {' | '.join(cells)} | {told} |")
    table = "\n".join(lines)
    assert table in PAGE.read_text(), f"docs/job-schedulers.md should hold:\n{table}"
