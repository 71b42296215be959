#!/usr/bin/env bash
# A series without `tz`: BullMQ's npm package computes the next run in the TZ of the process, its Python package in UTC.
# Where both work a queue, whoever took the last job decides when the next one runs.
source "$(dirname "$0")/lib.sh"
pip_packages bullmq==3.4.4 croniter==2.0.7 redis==8.1.0
npm_packages bullmq@6.7.0 ioredis@5.11.1
start_redis
export TZ=America/New_York

cat >run.py <<'PYTHON'
import asyncio
import sys

from bullmq import Queue


async def main():
    queue = Queue("reports", {"connection": f"redis://127.0.0.1:{sys.argv[1]}"})
    await queue.upsertJobScheduler("python", {"pattern": "0 9 2 1 *", "startDate": "2030-01-01T12:00:00Z"}, "report")
    await queue.close()


asyncio.run(main())
PYTHON

cat >run.mjs <<'JS'
import { Redis } from "ioredis";
import { Queue } from "bullmq";

const redis = new Redis(Number(process.argv[2]), "127.0.0.1");
const queue = new Queue("reports", { connection: redis });
await queue.upsertJobScheduler("npm", { pattern: "0 9 2 1 *", startDate: "2030-01-01T12:00:00Z" }, { name: "report" });
for (const id of ["npm", "python"]) {
  const { next } = await queue.getJobScheduler(id);
  console.log(`0 9 2 1 * without tz, TZ=${process.env.TZ}, by ${id}: ${new Date(next).toISOString()}`);
}
await queue.close();
redis.disconnect();
JS

{
  "$python" run.py "$port"
  node run.mjs "$port"
} >seen
expect seen <<'SEEN'
0 9 2 1 * without tz, TZ=America/New_York, by npm: 2030-01-02T14:00:00.000Z
0 9 2 1 * without tz, TZ=America/New_York, by python: 2030-01-02T09:00:00.000Z
SEEN
