#!/usr/bin/env bash
# BullMQ reads a `startDate` that is text without an offset in the zone of the producer's process, even beside `tz`.
# Two replicas of one producer with different TZ give one series two beginnings.
source "$(dirname "$0")/lib.sh"
npm_packages bullmq@6.7.0 ioredis@5.11.1
start_redis

cat >run.mjs <<'JS'
import { Redis } from "ioredis";
import { Queue } from "bullmq";

const redis = new Redis(Number(process.argv[2]), "127.0.0.1");
const queue = new Queue("reports", { connection: redis });
const startDate = "2030-06-02T08:00:00";
const repeat = { pattern: "0 9 * * *", tz: "Europe/Berlin", startDate };
await queue.upsertJobScheduler(process.env.TZ, repeat, { name: "report" });
const { next } = await queue.getJobScheduler(process.env.TZ);
const first = new Date(next).toISOString();
console.log(`startDate ${startDate}, tz ${repeat.tz}, producer's TZ ${process.env.TZ}: ${first}`);
await queue.close();
redis.disconnect();
JS

for zone in UTC Europe/Berlin; do TZ=$zone node run.mjs "$port"; done >seen
expect seen <<'SEEN'
startDate 2030-06-02T08:00:00, tz Europe/Berlin, producer's TZ UTC: 2030-06-03T07:00:00.000Z
startDate 2030-06-02T08:00:00, tz Europe/Berlin, producer's TZ Europe/Berlin: 2030-06-02T07:00:00.000Z
SEEN
