#!/usr/bin/env bash
# The connection breaks after Redis has carried out an add and before the reply arrives. With ioredis the add is sent
# again, makes a second job, and answers; with node-redis the same `queue.add` of BullMQ raises, and there is one job.
source "$(dirname "$0")/lib.sh"
npm_packages bullmq@6.7.0 ioredis@6.0.0 redis@5.12.1
start_redis

cat >run.mjs <<'JS'
import { once } from "node:events";
import net from "node:net";
import { Redis } from "ioredis";
import { createClient } from "redis";
import { Queue } from "bullmq";

const server = Number(process.argv[2]);

// A relay to Redis. While `cut` is set, the first reply to a script ends the connection instead of reaching the client.
let cut = false;
const relay = net.createServer((client) => {
  const redis = net.connect(server, "127.0.0.1");
  let script = false;
  client.on("data", (bytes) => {
    script ||= cut && /EVAL/i.test(bytes.toString("latin1"));
    redis.write(bytes);
  });
  redis.on("data", (bytes) => {
    if (script && cut) {
      cut = false;
      client.destroy();
    } else client.write(bytes);
  });
  for (const [end, other] of [[client, redis], [redis, client]]) {
    end.on("error", () => {});
    end.on("close", () => other.destroy());
  }
});
relay.listen(0, "127.0.0.1");
await once(relay, "listening");
const { port } = relay.address();

const fromNodeRedis = createClient({ url: `redis://127.0.0.1:${port}` });
fromNodeRedis.on("error", () => {});
await fromNodeRedis.connect();
const clients = { "ioredis 6.0.0": new Redis(port, "127.0.0.1"), "node-redis 5.12.1": fromNodeRedis };

for (const [label, connection] of Object.entries(clients)) {
  const queue = new Queue(label.replace(" ", "-"), { connection });
  queue.on("error", () => {});
  await queue.waitUntilReady();
  await queue.add("loads the script", {});
  await queue.drain();
  cut = true;
  const answer = await queue.add("once", {}).then(() => "answers", (error) => `raises: ${error.message}`);
  const look = new Queue(queue.name, { connection: { port: server, host: "127.0.0.1" } });
  const { waiting } = await look.getJobCounts("waiting");
  console.log(`${label}: one add, its reply lost: ${answer}; jobs in the queue: ${waiting}`);
}
process.exit(0);
JS

node run.mjs "$port" >seen
expect seen <<'SEEN'
ioredis 6.0.0: one add, its reply lost: answers; jobs in the queue: 2
node-redis 5.12.1: one add, its reply lost: raises: Socket closed unexpectedly; jobs in the queue: 1
SEEN
