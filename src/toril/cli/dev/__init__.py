"""Local mode: the same JobQueue manifests without a cluster.

A real Redis-compatible server of its own (`server`), the manifests (`manifests`), worker processes behind the `Fleet`
interface (`fleet`, `child`), the scaling loop around the same pure scaler (`session`), what one sees of it (`table`),
and the demo that accounts for every job (`demo`, `demo_plan`). No second engine, no second scaler.
"""
