"""The examples of `docs/flows.md` do what the page says."""

from __future__ import annotations

from typing import Any

import pytest

from support import documents
from support.worker_inside import StartWorker


async def test_the_examples_run(redis_url: str, worker: StartWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    names: dict[str, Any] = {"__name__": "flows_page"}
    for block in documents.blocks(documents.ROOT / "docs/flows.md"):
        exec(compile(block.text, str(block), "exec"), names)
    pages, reports = names["pages"], names["reports"]
    async with pages, reports, worker(pages, concurrency=3), worker(reports):
        assert await names["order_report"]() == "May: page 1, page 2, page 3"
        assert await names["order_what_there_is"]() == "June: page 1, page 2"
        handle = await names["bind_many"].enqueue(3)
        assert await handle.result(60) == 3
        assert sorted(child.job.id for child in (await handle.tree()).children) == [
            f"{handle.id}-page-{number}" for number in range(3)
        ]
