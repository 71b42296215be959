#!/usr/bin/env bash
# BullMQ's npm package refuses a whole number as a job's own id, its Python package takes one. When the queue's counter
# comes to that number, the next job takes the id over: its data replaces the first job's, and the id waits twice.
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
    job = await queue.add("order", {"order": "Python's"}, {"jobId": "3"})
    print(f"Python: add with jobId 3: job {job.id}")
    await queue.close()


asyncio.run(main())
PYTHON

cat >run.mjs <<'JS'
import { Redis } from "ioredis";
import { Queue } from "bullmq";

const redis = new Redis(Number(process.argv[2]), "127.0.0.1");
const queue = new Queue("orders", { connection: redis });
const refused = await queue.add("order", {}, { jobId: "3" }).catch((error) => error.message);
console.log(`npm: add with jobId 3: ${refused}`);
for (const order of ["npm's first", "npm's second"]) {
  const job = await queue.add("order", { order });
  console.log(`npm: add without jobId: job ${job.id}`);
}
console.log(`data of job 3: ${JSON.stringify((await queue.getJob("3")).data)}`);
console.log(`waiting ids: ${await redis.lrange("bull:orders:wait", 0, -1)}`);
await queue.close();
redis.disconnect();
JS

{
  "$python" run.py "$port"
  node run.mjs "$port"
} >seen
expect seen <<'SEEN'
Python: add with jobId 3: job 3
npm: add with jobId 3: Custom Id cannot be integers
npm: add without jobId: job 2
npm: add without jobId: job 3
data of job 3: {"order":"npm's second"}
waiting ids: 3,2,3
SEEN
