"""What can go wrong with the test cluster itself."""

from __future__ import annotations


class ClusterError(Exception):
    """A part of the test cluster did not do what it should: the message says which and shows the end of its log."""


class UnavailableError(ClusterError):
    """This machine cannot run it (no root, no Go, no package): tests that need it are reported as not run."""
