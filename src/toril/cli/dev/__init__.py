"""Local mode: the same JobQueue manifests without a cluster.

The flags (`command`), the manifests (`manifests`), a real Redis-compatible server of its own (`server`), worker
processes (`fleet`, `environment`, `child`), the scaling loop around the same pure scaler
(`session`), its output (`table`, `hints`, `tasks`), the demo that accounts for every job (`demo`,
`demo_plan`), and the order in which all this starts and ends (`local_run`). No second engine, no second scaler.
"""
