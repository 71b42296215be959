#!/usr/bin/env bash
# A Redis at `maxmemory` with `noeviction` refuses more than adds: BullMQ's workers lose the locks of long jobs, and a
# scheduler's job that has just come due is taken but never run.
source "$(dirname "$0")/lib.sh"
npm_packages bullmq@6.7.0 five@npm:bullmq@5.81.5 ioredis@5.11.1
start_redis

cat >run.mjs <<'JS'
import { Redis } from "ioredis";

const redis = new Redis(Number(process.argv[2]), "127.0.0.1", { maxRetriesPerRequest: null });
const settled = async (action) => {
  try {
    const result = await action();
    return result?.id ? "answers with a job" : "answers";
  } catch (error) {
    return `refused: ${error.message.split(" ")[0]}`;
  }
};

for (const [label, name] of [["bullmq 5.81.5", "five"], ["bullmq 6.7.0", "bullmq"]]) {
  const { Queue, Worker } = await import(name);
  const queue = new Queue(`full-${name}`, { connection: redis });
  const worker = new Worker(queue.name, null, { connection: redis, autorun: false });
  const errors = [];
  worker.on("error", (error) => errors.push(error.message));
  await worker.waitUntilReady();

  await queue.add("long", {});
  const long = await worker.getNextJob("token-1", { block: false });
  await queue.upsertJobScheduler("every", { every: 500 }, { name: "scheduled" });
  const first = await worker.getNextJob("token-2", { block: false });
  await first.moveToCompleted(null, "token-2", false);
  const [next] = await queue.getDelayed();
  while (Date.now() <= next.timestamp + next.delay) await new Promise((resolve) => setTimeout(resolve, 20));

  await redis.config("SET", "maxmemory", "1");
  console.log(`${label}: extendLock of a running job: ${await settled(() => long.extendLock("token-1", 30000))}`);
  console.log(`${label}: promoteJobs: ${await settled(() => queue.promoteJobs())}`);
  console.log(`${label}: obliterate: ${await settled(() => queue.obliterate({ force: true }))}`);
  const taken = await worker.getNextJob("token-3", { block: false });
  console.log(`${label}: the take of the due scheduled job: ${taken ? "a job" : "nothing"}`);
  for (const message of errors) console.log(`${label}: error event: ${message.slice(0, 55)}`);
  const active = await redis.lrange(`bull:${queue.name}:active`, 0, -1);
  const locked = await redis.exists(`bull:${queue.name}:${next.id}:lock`);
  console.log(`${label}: scheduled job in active: ${active.includes(next.id)}, locked: ${locked === 1}`);
  console.log(`${label}: pause: ${await settled(() => queue.pause())}`);
  const finish = await settled(() => long.moveToCompleted(null, "token-1", false));
  console.log(`${label}: finish of the running job: ${finish}`);
  await redis.config("SET", "maxmemory", "0");
  await worker.close();
  await queue.close();
}
redis.disconnect();
JS

node run.mjs "$port" >seen
expect seen <<'SEEN'
bullmq 5.81.5: extendLock of a running job: refused: OOM
bullmq 5.81.5: promoteJobs: refused: OOM
bullmq 5.81.5: obliterate: refused: OOM
bullmq 5.81.5: the take of the due scheduled job: nothing
bullmq 5.81.5: error event: OOM command not allowed when used memory > 'maxmemory'.
bullmq 5.81.5: error event: Failed to add repeatable job for next iteration: OOM co
bullmq 5.81.5: scheduled job in active: true, locked: true
bullmq 5.81.5: pause: refused: OOM
bullmq 5.81.5: finish of the running job: answers
bullmq 6.7.0: extendLock of a running job: refused: OOM
bullmq 6.7.0: promoteJobs: refused: OOM
bullmq 6.7.0: obliterate: refused: OOM
bullmq 6.7.0: the take of the due scheduled job: nothing
bullmq 6.7.0: error event: OOM command not allowed when used memory > 'maxmemory'.
bullmq 6.7.0: error event: Failed to add repeatable job for next iteration: OOM co
bullmq 6.7.0: scheduled job in active: true, locked: true
bullmq 6.7.0: pause: refused: OOM
bullmq 6.7.0: finish of the running job: answers
SEEN
