// One process with a real BullMQ package, told what to do by lines of JSON: the tests' hands on the other side.
//
//   node driver.mjs PACKAGE          (bullmq or bullmq5)
//
// A request is {id, op, …}; its reply {id, value} or {id, error: {name, message}}. Replies come in any order.
// When stdin ends, the process ends.

import { appendFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const bullmq = require(process.argv[2]);
// The parser that this package itself uses.
const cron = createRequire(require.resolve(process.argv[2]))("cron-parser");
const parseCron = cron.CronExpressionParser?.parse ?? cron.parseExpression;
const EVENTS = [
  "added", "waiting", "delayed", "active", "completed", "failed", "retries-exhausted", "progress", "stalled", "removed",
  "duplicated", "deduplicated", "debounced", "paused", "resumed", "drained", "cleaned", "waiting-children",
];
const WORKER_EVENTS = ["active", "completed", "failed", "progress", "stalled", "drained", "error"];

const opened = new Map();
const gates = new Map();

function gate(name) {
  if (!gates.has(name)) {
    let open;
    const passed = new Promise((resolve) => (open = resolve));
    gates.set(name, { passed, open });
  }
  return gates.get(name);
}

// What a job's name makes a worker do.
const processors = {
  echo: async (job) => job.data,
  nothing: async () => undefined,
  fail: async (job) => {
    throw new Error(job.data.message);
  },
  failTimes: async (job) => {
    if (job.attemptsMade < job.data.times) throw new Error(`${job.data.message} ${job.attemptsMade + 1}`);
    return "recovered";
  },
  unrecoverable: async (job) => {
    throw new bullmq.UnrecoverableError(job.data.message);
  },
  report: async (job) => {
    await job.updateProgress(job.data.progress);
    for (const row of job.data.rows) await job.log(row);
    return job.data.value;
  },
  gate: async (job) => {
    await gate(job.data.gate).passed;
    return "passed";
  },
  childrenValues: async (job) => job.getChildrenValues(),
  // Adds two children, waits for them, and returns what they returned.
  addChildren: async (job, token) => {
    if (!job.data.added) {
      const { url, queue } = job.data;
      const children = new bullmq.Queue(queue, { connection: { url } });
      const parent = { id: job.id, queue: job.queueQualifiedName };
      for (const n of [1, 2]) await children.add("echo", { n }, { parent });
      await children.close();
      await job.updateData({ ...job.data, added: true });
    }
    if (await job.moveToWaitingChildren(token)) throw new bullmq.WaitingChildrenError();
    return job.getChildrenValues();
  },
  sleep: async (job) => {
    await new Promise((resolve) => setTimeout(resolve, job.data.ms));
    return "slept";
  },
  // As the jobs of support/chaos.py, by the same clock.
  logged: async (job) => {
    const { log, ms, fails } = job.data;
    const note = (word) =>
      appendFileSync(log, `${process.hrtime.bigint()} ${process.pid} ${word} ${job.id} ${job.attemptsMade}\n`);
    note("start");
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (job.attemptsMade < fails) throw new Error("as planned");
    note("end");
    return process.pid;
  },
};

function openWorker(queue, options, entry) {
  const run = async (job, token) => {
    entry.runs.push({ id: job.id, name: job.name, attemptsMade: job.attemptsMade, atMs: Date.now() });
    return (processors[job.name] ?? processors.echo)(job, token);
  };
  const worker = new bullmq.Worker(queue, run, options);
  for (const event of WORKER_EVENTS) {
    worker.on(event, (job, detail) => {
      const told = event === "error" || event === "failed" ? (event === "error" ? job : detail)?.message : undefined;
      entry.events.push({ event, jobId: job?.id ?? null, message: told ?? null });
    });
  }
  return worker;
}

async function open({ kind, queue, options, own }) {
  const handle = opened.size + 1;
  const entry = { kind, events: [], runs: [] };
  if (kind === "Worker") {
    entry.object = openWorker(queue, options, entry);
  } else if (kind === "QueueEvents") {
    entry.object = new bullmq.QueueEvents(queue, options);
    // `drained` comes with the entry's id alone.
    for (const event of [...EVENTS, ...(own ?? [])]) {
      entry.object.on(event, (fields) => entry.events.push({ event, ...(typeof fields === "string" ? {} : fields) }));
    }
    entry.object.on("error", (problem) => entry.events.push({ event: "error", message: problem.message }));
  } else if (kind === "FlowProducer") {
    entry.object = new bullmq.FlowProducer(options);
  } else {
    entry.object = new bullmq[kind](queue, options); // Queue, QueueEventsProducer
  }
  opened.set(handle, entry);
  await entry.object.waitUntilReady();
  return handle;
}

// Jobs become plain objects, also those in the nodes of a flow; whatever else passes as JSON.
function plain(value) {
  if (value instanceof bullmq.Job) return value.toJSON();
  if (value?.job instanceof bullmq.Job) return { job: plain(value.job), children: plain(value.children ?? []) };
  if (Array.isArray(value)) return value.map(plain);
  return value === undefined ? null : value;
}

const get = (handle) => opened.get(handle);

// The routes of Bull Board's HTTP API over one queue; its web server is the only part left out.
function openBoard(queue) {
  const require = createRequire(import.meta.url);
  const { createBullBoard } = require("@bull-board/api");
  const { BullMQAdapter } = require("@bull-board/api/bullMQAdapter");
  const board = {};
  const server = new Proxy(
    { setQueues: (queues) => (board.queues = queues), setApiRoutes: (routes) => (board.routes = routes) },
    { get: (parts, name) => (value) => (parts[name]?.(value), server) },
  );
  createBullBoard({ queues: [new BullMQAdapter(queue)], serverAdapter: server });
  return board;
}

async function askBoard({ handle, method, route, params, query, body }) {
  const entry = get(handle);
  entry.board ??= openBoard(entry.object);
  const found = entry.board.routes.find((each) => each.method === method && [each.route].flat().includes(route));
  if (!found) throw new Error(`no route ${method} ${route}`);
  const request = { queues: entry.board.queues, params, query, body, headers: {} };
  const { status, body: answer } = await found.handler(request);
  return { status: status ?? 200, body: answer ?? null };
}

async function loadJob(handle, jobId) {
  const job = await get(handle).object.getJob(jobId);
  if (!job) throw new Error(`no job ${jobId}`);
  return job;
}

// The next moments of a pattern, each computed from the one before as a worker does; or what the parser says. `H` is
// drawn anew for each, as workers do; `seed` makes the draws known.
function cronTimes([pattern, tz, afterMs, count, seed]) {
  const times = [];
  try {
    for (let after = afterMs; times.length < count; times.push(after)) {
      const hashSeed = seed && `${seed}:${after}`;
      after = parseCron(pattern, { currentDate: new Date(after), tz, hashSeed }).next().getTime();
    }
  } catch (problem) {
    return problem.message;
  }
  return times;
}

const operations = {
  cron: async ({ cases }) => cases.map(cronTimes),
  open,
  call: async ({ handle, method, args }) => plain(await get(handle).object[method](...args)),
  job: async ({ handle, jobId, method, args }) => plain(await (await loadJob(handle, jobId))[method](...args)),
  finished: async ({ handle, events, jobId, ttl }) =>
    plain(await (await loadJob(handle, jobId)).waitUntilFinished(get(events).object, ttl)),
  // Listening has begun before the job is added: nothing is left to luck when the job is removed as it ends.
  addAndWait: async ({ handle, events, args, ttl }) =>
    plain(await (await get(handle).object.add(...args)).waitUntilFinished(get(events).object, ttl)),
  // What a worker does when its function has thrown.
  failJob: async ({ handle, jobId, message, token }) => {
    await (await loadJob(handle, jobId)).moveToFailed(new Error(message), token, false);
  },
  addMany: async ({ handle, name, count, data, options }) => {
    const jobs = Array.from({ length: count }, () => ({ name, data, opts: options }));
    return (await get(handle).object.addBulk(jobs)).map((job) => job.id);
  },
  // Take one job as a worker's loop does, and complete it.
  takeOne: async ({ handle }) => {
    const job = await get(handle).object.getNextJob("token:1", { block: false });
    if (!job) throw new Error("there is no job to take");
    await job.moveToCompleted(null, "token:1", false);
    return job.id;
  },
  board: askBoard,
  events: async ({ handle }) => get(handle).events,
  runs: async ({ handle }) => get(handle).runs,
  release: async ({ name }) => gate(name).open(),
  close: async ({ handle, force }) => {
    const entry = get(handle);
    if (entry.closed) return;
    entry.closed = true;
    await (entry.kind === "Worker" ? entry.object.close(force) : entry.object.close());
  },
};

const say = (reply) => process.stdout.write(`${JSON.stringify(reply)}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  const { id, op, ...request } = JSON.parse(line);
  operations[op](request).then(
    (value) => say({ id, value: value ?? null }),
    (problem) => say({ id, error: { name: problem?.name ?? "Error", message: problem?.message ?? String(problem) } }),
  );
}
process.exit(0);
