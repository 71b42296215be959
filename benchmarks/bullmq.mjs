// BullMQ 6 as the benchmark drives it.
//
//   node bullmq.mjs add                                 reads requests as lines of JSON, answers each with one
//   node bullmq.mjs work URL QUEUE CONCURRENCY KIND     a worker that runs until it is ended
//
// A request is {op: "bulk" | "single", url, queue, jobs, perCall}; its answer {seconds, jobs, cpuSeconds}, without the first
// twentieth. Times are of the monotonic clock. BullMQ is the one that the peer tests have installed.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const { Queue, Worker } = createRequire(new URL("../tests/peers/driver.mjs", import.meta.url))("bullmq");

const DATA = { to: "somebody@example.com", subject: "Your weekly summary is here", body: "x".repeat(25) };

const monotonicUs = () => Number(process.hrtime.bigint() / 1000n);

async function bulk(queue, jobs, perCall) {
  for (let done = 0; done < jobs; done += perCall) {
    await queue.addBulk(Array.from({ length: Math.min(perCall, jobs - done) }, () => ({ name: "send", data: DATA })));
  }
}

async function single(queue, jobs) {
  for (let done = 0; done < jobs; done++) await queue.add("send", DATA);
}

async function add({ op, url, queue: name, jobs, perCall }) {
  const queue = new Queue(name, { connection: { url } });
  await queue.waitUntilReady();
  const run = op === "bulk" ? bulk : single;
  const untimed = Math.ceil(jobs / 20 / perCall) * perCall;
  await run(queue, untimed, perCall);
  const cpu = process.cpuUsage();
  const began = monotonicUs();
  await run(queue, jobs - untimed, perCall);
  const seconds = (monotonicUs() - began) / 1e6;
  const used = process.cpuUsage(cpu);
  await queue.close();
  return { seconds, jobs: jobs - untimed, cpuSeconds: (used.user + used.system) / 1e6 };
}

const processors = {
  none: async () => undefined,
  wait: (job) => new Promise((resolve) => {
    const began = monotonicUs();
    setTimeout(() => resolve(monotonicUs() - began), job.data.ms);
  }),
  // How long ago the job was added, by the clock that all processes of a machine share.
  latency: async (job) => monotonicUs() - job.data.added_us,
};

const [role, url, queue, concurrency, kind] = process.argv.slice(2);
if (role === "work") {
  const worker = new Worker(queue, processors[kind], { connection: { url }, concurrency: Number(concurrency) });
  worker.on("error", (problem) => console.error(problem));
} else {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await add(JSON.parse(line))));
  }
}
