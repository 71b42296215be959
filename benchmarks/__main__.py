"""Side by side with BullMQ 6: measure, print, and write the table of docs/performance.md.

    make bench                                   everything, about ten minutes, and writes the page
    python -m benchmarks --quick                 small numbers, one run, writes nothing
    python -m benchmarks --only bulk --only no-op-100

Contenders take turns, each in a process of its own, each step on a fresh redis-server. Nothing here fails because
something is slow.
"""

from __future__ import annotations

import argparse
import time

from benchmarks import measures, report
from benchmarks.measures import Scale


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="small numbers and one run, for developing; writes nothing"
    )
    parser.add_argument("--only", action="append", choices=list(measures.ALL), help="only this measure; writes nothing")
    arguments = parser.parse_args()
    scale = Scale(share=0.1, runs=1) if arguments.quick else Scale(share=1.0, runs=3)
    found = report.Findings(report.describe_machine())
    for name in arguments.only or measures.ALL:
        began = time.monotonic()
        print(f"{name} …", flush=True)
        for row in measures.ALL[name](scale):
            found.rows.append(row)
            print(f"  {report.in_words(row)}", flush=True)
        print(f"  {time.monotonic() - began:.0f} s", flush=True)
    if not arguments.quick and not arguments.only:
        print(f"wrote {report.write(found)}")


if __name__ == "__main__":
    main()
