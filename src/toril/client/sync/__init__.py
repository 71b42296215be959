"""The classes of `toril.client` for code without an event loop.

`tools/sync_twins.py` writes all modules from the modules of the same name in `toril.client`; only `queue` is written by
hand. `make sync` writes them anew, and `make lint` fails when one of them is stale.
"""
