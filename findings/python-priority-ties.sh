#!/usr/bin/env bash
# BullMQ's Python package documents 2097152 as the lowest priority and takes it; its npm package refuses it. The scores
# of such jobs are beyond what a double holds exactly: two jobs share a score, and the text of their ids orders them.
source "$(dirname "$0")/lib.sh"
pip_packages bullmq==3.4.4 redis==8.1.0
npm_packages bullmq@6.7.0 ioredis@5.11.1
start_redis

cat >run.py <<'PYTHON'
import asyncio
import sys

from bullmq import Queue


async def main():
    queue = Queue("orders", {"connection": f"redis://127.0.0.1:{sys.argv[1]}"})
    for _ in range(100):
        await queue.add("order", {}, {"priority": 2_097_152})
    await queue.close()


asyncio.run(main())
PYTHON

cat >run.mjs <<'JS'
import { Redis } from "ioredis";
import { Queue } from "bullmq";

const redis = new Redis(Number(process.argv[2]), "127.0.0.1");
const queue = new Queue("orders", { connection: redis });
const refused = await queue.add("order", {}, { priority: 2097152 }).catch((error) => error.message);
console.log(`npm: add with priority 2097152: ${refused}`);
const last = await redis.zrange("bull:orders:prioritized", -4, -1);
console.log(`Python: 100 jobs with priority 2097152, the last four by turn: ${last}`);
await queue.close();
redis.disconnect();
JS

"$python" run.py "$port"
node run.mjs "$port" >seen
expect seen <<'SEEN'
npm: add with priority 2097152: Priority should be between 0 and 2097151
Python: 100 jobs with priority 2097152, the last four by turn: 97,98,100,99
SEEN
