#!/usr/bin/env bash
# "The last Friday" is `L5` for croniter (BullMQ's Python package) and `5L` for cron-parser (BullMQ's npm package).
# A series that one of them made breaks at the first job which the other one takes.
source "$(dirname "$0")/lib.sh"
pip_packages bullmq==3.4.4 croniter==2.0.7 redis==8.1.0
npm_packages bullmq@6.7.0 ioredis@5.11.1
start_redis

cat >run.mjs <<'JS'
import { Redis } from "ioredis";
import { Queue, Worker } from "bullmq";

const [port, action, name] = process.argv.slice(2);
const redis = new Redis(Number(port), "127.0.0.1", { maxRetriesPerRequest: null });
const queue = new Queue(name, { connection: redis });
if (action === "make") {
  await queue.upsertJobScheduler("report", { pattern: "0 9 * * 5L", tz: "UTC", immediately: true }, { name: "report" });
} else if (action === "take") {
  const worker = new Worker(name, null, { connection: redis, autorun: false });
  worker.on("error", () => {});
  await worker.waitUntilReady();
  const job = await worker.getNextJob("token", { block: false });
  console.log(`npm worker takes the job of Python's L5: ${job ? "a job" : "nothing"}`);
  await worker.close();
}
if (action === "take" || action === "look") {
  const counts = await queue.getJobCounts("active", "completed", "delayed");
  console.log(`  then: ${counts.active} in active, ${counts.completed} completed, ${counts.delayed} next run`);
}
await queue.close();
redis.disconnect();
JS

cat >run.py <<'PYTHON'
import asyncio
import sys

from bullmq import Queue, Worker

port, action, name = sys.argv[1:]
connection = {"connection": f"redis://127.0.0.1:{port}"}


async def make():
    queue = Queue(name, connection)
    await queue.upsertJobScheduler("report", {"pattern": "0 9 * * L5", "tz": "UTC", "immediately": True}, "report")
    await queue.close()


async def take():
    ran = asyncio.get_running_loop().create_future()
    errors = []

    async def process(job, token):
        return "done"

    worker = Worker(name, process, connection)
    worker.on("error", lambda error, *rest: errors.append(type(error).__name__))
    worker.on("completed", lambda *event: ran.done() or ran.set_result(True))
    await asyncio.wait_for(ran, 20)
    print(f"Python worker takes the job of npm's 5L: runs it; errors: {', '.join(errors)}")
    await worker.close()


asyncio.run(make() if action == "make" else take())
PYTHON

{
  "$python" run.py "$port" make from-python
  node run.mjs "$port" take from-python
  node run.mjs "$port" make from-npm
  "$python" run.py "$port" take from-npm
  node run.mjs "$port" look from-npm
} >seen
expect seen <<'SEEN'
npm worker takes the job of Python's L5: nothing
  then: 1 in active, 0 completed, 0 next run
Python worker takes the job of npm's 5L: runs it; errors: CroniterNotAlphaError, RuntimeError
  then: 0 in active, 1 completed, 0 next run
SEEN
