"""Measures producers: how fast they add, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import contenders, servers


def compare(op: str, ways: Mapping[str, str], jobs: int, *, per_call: int = 1) -> dict[str, dict[str, float]]:
    """Let BullMQ and each of our ways add jobs; answer `rate`, `redis_us`, `client_us` and `bytes` of each.

    Args:
        op: what BullMQ's producer is asked for.
        ways: our name → what our producer is asked for.
    """
    found = {"bullmq": add(contenders.bullmq_producer, op, jobs, per_call)}
    for name, our_op in ways.items():
        found[name] = add(contenders.toril_producer, our_op, jobs, per_call)
    return found


def add(start: contenders.StartProducer, op: str, jobs: int, per_call: int) -> dict[str, float]:
    with servers.fresh() as server, start() as producer:
        # So that scripts and connections, which are no job's, are in the memory before.
        producer.add(op, server.url, "bench", per_call, per_call=per_call)
        memory = server.memory_bytes
        cpu = server.cpu_seconds
        answer = producer.add(op, server.url, "bench", jobs, per_call=per_call)
        cpu = server.cpu_seconds - cpu
        return {
            "rate": answer["jobs"] / answer["seconds"],
            "redis_us": cpu / jobs * 1e6,
            "client_us": answer["cpuSeconds"] / answer["jobs"] * 1e6,
            "bytes": (server.memory_bytes - memory) / jobs,
        }
