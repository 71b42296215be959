"""The examples of `docs/steering.md` do what the page says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from support import documents
from support.engine import open_queue
from toril.engine.worker import Finish


async def test_the_pages_examples(redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    page: dict[str, Any] = {}
    for block in documents.blocks(documents.ROOT / "docs/steering.md"):
        exec(compile(block.text, str(block), "exec"), page)
    async with page["queue"] as queue, open_queue(redis_url, "email") as stored:
        listening = asyncio.create_task(page["listen"]("0"))
        await queue.add("welcome", {})
        await stored.finish(Finish.failed(await stored.take_one(), "no such user", "[]"))
        assert (await page["look_after"]())["waiting"] == 1
        later = await queue.add("welcome", {}, {"delay": 60_000})
        await page["run_first"](later.id)
        assert await asyncio.to_thread(page["add_one"], "a@b.c") == "waiting"
        last_id = await asyncio.wait_for(listening, 30)
    told = capsys.readouterr().out.splitlines()
    assert "1 welcome 1 no such user" in told
    assert "prioritized []" in told
    assert f"{last_id} drained None {{}}" in told
