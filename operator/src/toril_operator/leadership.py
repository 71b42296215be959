"""Whether this process may write. Every writer asks; who leads is decided here alone."""

from __future__ import annotations


class Leadership:
    """The only replica always leads. An election by Lease takes this class's place without changing its users."""

    def is_leader(self) -> bool:
        return True
