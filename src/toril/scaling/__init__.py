"""Signals in, a number of replicas with its reasons out. Pure: no I/O, no clock (time comes in as `now_ms`)."""
