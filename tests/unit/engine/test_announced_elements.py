"""What a stream announces is counted wherever it is cut."""

from __future__ import annotations

import pytest

from toril.engine.redis.protocol import MAX_LINE_BYTES, AnnouncedElements

STREAM = b"*3\r\n$7\r\n*9999\r\n\r\n:12\r\n*2\r\n+OK\r\n$-1\r\n-ERR *7\r\n*-1\r\n*0\r\n$0\r\n\r\n*1\r\n_\r\n"


@pytest.mark.requirement("T111")
@pytest.mark.parametrize("size", range(1, len(STREAM) + 1))
def test_the_cut_does_not_matter(size: int) -> None:
    announced = AnnouncedElements(100)
    for first in range(0, len(STREAM), size):
        announced.feed(STREAM[first : first + size])
    assert announced.count == 3 + 2 + 1, "what stands in a text announces nothing"


@pytest.mark.requirement("T111")
@pytest.mark.parametrize(
    "stream", [b"*101\r\n", b"*60\r\n*60\r\n", b"%99\r\n*2\r\n", b"*1x\r\n", b"+" + b"x" * MAX_LINE_BYTES]
)
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_too_much_is_refused(stream: bytes, size: int) -> None:
    announced = AnnouncedElements(100)
    with pytest.raises(ValueError, match=r"announced|invalid literal|longer"):
        for first in range(0, len(stream), size):
            announced.feed(stream[first : first + size])
