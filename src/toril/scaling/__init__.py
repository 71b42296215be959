"""Signals become a decision with its reasons. Pure; the `Fleet` protocol says what is scaled."""
