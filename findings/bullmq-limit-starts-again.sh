#!/usr/bin/env bash
# A scheduler with `limit: 2` stops after two jobs. The same upsert again, as at each start of a producer, makes two
# more.
source "$(dirname "$0")/lib.sh"
npm_packages bullmq@6.7.0 five@npm:bullmq@5.81.5 ioredis@5.11.1
start_redis

cat >run.mjs <<'JS'
import { Redis } from "ioredis";

const redis = new Redis(Number(process.argv[2]), "127.0.0.1", { maxRetriesPerRequest: null });
for (const [label, name] of [["bullmq 5.81.5", "five"], ["bullmq 6.7.0", "bullmq"]]) {
  const { Queue, Worker } = await import(name);
  const queue = new Queue(`limit-${name}`, { connection: redis });
  const worker = new Worker(queue.name, null, { connection: redis, autorun: false });
  await worker.waitUntilReady();
  for (const start of ["first", "second"]) {
    await queue.upsertJobScheduler("twice", { every: 50, limit: 2 }, { name: "job" });
    let jobs = 0;
    for (;;) {
      const job = await worker.getNextJob("token", { block: false });
      if (job) {
        jobs += 1;
        await job.moveToCompleted(null, "token", false);
      } else if ((await queue.getJobCountByTypes("waiting", "delayed", "prioritized")) === 0) break;
      else await new Promise((resolve) => setTimeout(resolve, 20));
    }
    console.log(`${label}, limit 2, after the ${start} upsert: ${jobs} jobs`);
  }
  await worker.close();
  await queue.close();
}
redis.disconnect();
JS

node run.mjs "$port" >seen
expect seen <<'SEEN'
bullmq 5.81.5, limit 2, after the first upsert: 2 jobs
bullmq 5.81.5, limit 2, after the second upsert: 2 jobs
bullmq 6.7.0, limit 2, after the first upsert: 2 jobs
bullmq 6.7.0, limit 2, after the second upsert: 2 jobs
SEEN
