// Adds jobs to ZettaNote's queues with the real `bullmq` package and waits until each has ended exactly once.
//
//   npm install bullmq ioredis
//   REDIS_URL=redis://127.0.0.1:6379 node produce.mjs --page-save 500 --image-upload 200
//
// The last line on stdout is a JSON summary. Exit code: 0 = all as planned, 1 = not, 2 = wrong usage.

import { createRequire } from "node:module";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const USAGE = `Usage: node produce.mjs [--page-save N] [--image-upload N] [--failing-twice N] [--invalid N] [--allow-restarts]
       [--timeout SECONDS]

  --page-save N       jobs that complete at once (default 20)
  --image-upload N    jobs that complete at once (default 10)
  --failing-twice N   page-save jobs that fail twice and complete on their third attempt (default 0)
  --invalid N         image-upload jobs whose image is none: they fail for good at once (default 0)
  --allow-restarts    a job may be started again, as after the death of its worker; it still has to end once
  --timeout SECONDS   give up after this time (default 300)

Environment: REDIS_URL (default redis://localhost:6379), BULLMQ_PREFIX (default bull), and BULLMQ (default bullmq): the
name under which the package is installed.`;

// What ZettaNote gives every job: three attempts after 5 and 10 seconds, a day of completed jobs, a week of failed ones.
const defaultJobOptions = {
  attempts: 3,
  backoff: { type: "exponential", delay: 5000 },
  removeOnComplete: { age: 86400, count: 1000 },
  removeOnFail: { age: 604800, count: 5000 },
};
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

function readOptions() {
  const count = { type: "string" };
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        "page-save": { ...count, default: "20" },
        "image-upload": { ...count, default: "10" },
        "failing-twice": { ...count, default: "0" },
        invalid: { ...count, default: "0" },
        timeout: { ...count, default: "300" },
        "allow-restarts": { type: "boolean", default: false },
        help: { type: "boolean", short: "h" },
      },
    }));
    if (values.help) {
      console.log(USAGE);
      process.exit(0);
    }
    for (const [name, text] of Object.entries(values)) {
      if (typeof text === "boolean") continue;
      if (!/^[0-9]+$/.test(text)) throw new Error(`--${name} must be a whole number`);
      values[name] = Number(text);
    }
    return values;
  } catch (problem) {
    console.error(`${problem.message}\n\n${USAGE}`);
    process.exit(2);
  }
}

// bullmq is looked up beside this file, then in the folder we were started from.
function loadBullmq() {
  const require = createRequire(import.meta.url);
  const paths = [dirname(fileURLToPath(import.meta.url)), process.cwd()];
  return require(require.resolve(process.env.BULLMQ ?? "bullmq", { paths }));
}

function planJobs(options) {
  const many = (count, make) => Array.from({ length: count }, (_, index) => make(index));
  const page = (index, more = {}) => ({
    name: "page-save",
    data: { pageId: `page-${index}`, newPageData: `# Page ${index}\n\n![a](image:img-${index})`, userId: "u-1", ...more },
  });
  const image = (index, content) => ({
    name: "image-upload",
    data: { image: content, originalName: `photo-${index}.png`, pageId: `page-${index}`, userId: "u-1" },
  });
  const plan = (jobs, end, attempts) => jobs.map((job) => ({ job, end, attempts }));
  return {
    "page-save": [
      ...plan(many(options["page-save"], (index) => page(index)), "completed", 1),
      ...plan(many(options["failing-twice"], (index) => page(index, { failTimes: 2 })), "completed", 3),
    ],
    "image-upload": [
      ...plan(many(options["image-upload"], (index) => image(index, PIXEL)), "completed", 1),
      ...plan(many(options.invalid, (index) => image(index, "bm8gaW1hZ2U=")), "failed", 1),
    ],
  };
}

// One queue, its listener, and what the listener has heard: job id → events with the time Redis gave them.
class Watched {
  constructor(bullmq, name, url, prefix) {
    Object.assign(this, { name, url, prefix, QueueEvents: bullmq.QueueEvents });
    this.queue = new bullmq.Queue(name, { connection: { url }, prefix, defaultJobOptions });
    this.heard = new Map();
    this.planned = new Map();
  }

  // Listen from the stream's beginning, so that nothing is missed before listening has begun; our jobs are known by their ids.
  async listen() {
    const options = { connection: { url: this.url }, prefix: this.prefix, lastEventId: "0-0" };
    this.events = new this.QueueEvents(this.name, options);
    this.events.on("error", (problem) => console.error(`${this.name}: ${problem.message}`));
    for (const event of ["active", "delayed", "completed", "failed"]) {
      this.events.on(event, ({ jobId }, id) => this.hear(event, jobId, Number(id.split("-")[0])));
    }
    await this.events.waitUntilReady();
  }

  hear(event, jobId, atMs) {
    const events = this.heard.get(jobId) ?? [];
    events.push({ event, atMs });
    this.heard.set(jobId, events);
  }

  async add(plan) {
    const jobs = await this.queue.addBulk(plan.map((each) => each.job));
    jobs.forEach((job, index) => this.planned.set(job.id, plan[index]));
  }

  times(jobId, event) {
    return (this.heard.get(jobId) ?? []).filter((each) => each.event === event).map((each) => each.atMs);
  }

  get ended() {
    const hasEnded = (id) => this.times(id, "completed").length + this.times(id, "failed").length > 0;
    return [...this.planned.keys()].filter(hasEnded).length;
  }

  // Every job against its plan: by the events, and by what Redis holds now.
  async verify(allowRestarts) {
    const problems = [];
    for (const [id, { end, attempts }] of this.planned) {
      const seen = Object.fromEntries(["completed", "failed", "active"].map((event) => [event, this.times(id, event).length]));
      const planned = { completed: 0, failed: 0, [end]: 1, active: attempts };
      for (const [event, count] of Object.entries(planned)) {
        if (seen[event] === count || (allowRestarts && event === "active" && seen[event] > count)) continue;
        problems.push(`${this.name} ${id}: ${event} ${seen[event]} times, planned ${count}`);
      }
      const job = await this.queue.getJob(id);
      const state = job ? await job.getState() : "gone";
      if (state !== end) problems.push(`${this.name} ${id}: is ${state}, planned ${end}`);
      else if (job.attemptsMade !== attempts) problems.push(`${this.name} ${id}: ${job.attemptsMade} attempts, planned ${attempts}`);
    }
    return problems;
  }

  // Milliseconds from each failure to the start of the next attempt, for the jobs that were retried.
  retryGaps() {
    const gaps = [];
    for (const [id, { attempts }] of this.planned) {
      if (attempts === 1) continue;
      const starts = this.times(id, "active");
      gaps.push(this.times(id, "delayed").map((atMs, index) => starts[index + 1] - atMs));
    }
    return gaps;
  }

  async close() {
    await this.events?.close();
    await this.queue.close();
  }
}

const options = readOptions();
const url = process.env.REDIS_URL ?? "redis://localhost:6379";
const bullmq = loadBullmq();
const plans = planJobs(options);
const queues = Object.keys(plans).map((name) => new Watched(bullmq, name, url, process.env.BULLMQ_PREFIX ?? "bull"));
const total = Object.values(plans).flat().length;
const startedMs = Date.now();
const deadlineMs = startedMs + options.timeout * 1000;

await Promise.all(queues.map((each) => each.listen()));
await Promise.all(queues.map((each) => each.add(plans[each.name])));
console.error(`added ${total} jobs`);

const ended = () => queues.reduce((sum, each) => sum + each.ended, 0);
for (let saidMs = Date.now(); ended() < total && Date.now() < deadlineMs; ) {
  await new Promise((resolve) => setTimeout(resolve, 50));
  if (Date.now() - saidMs >= 2000) {
    saidMs = Date.now();
    console.error(`${ended()} of ${total} jobs ended`);
  }
}
// A job that runs twice may be heard of a little after its first end.
await new Promise((resolve) => setTimeout(resolve, 500));

const problems = (await Promise.all(queues.map((each) => each.verify(options["allow-restarts"])))).flat();
const starts = queues.flatMap((each) => [...each.planned.keys()].flatMap((id) => each.times(id, "active")));
const summary = {
  ok: problems.length === 0,
  added: total,
  ended: ended(),
  queues: Object.fromEntries(
    queues.map((each) => {
      const count = (event) => [...each.planned.keys()].reduce((sum, id) => sum + each.times(id, event).length, 0);
      return [each.name, { added: each.planned.size, completed: count("completed"), failed: count("failed"), started: count("active") }];
    }),
  ),
  retryGapsMs: queues.flatMap((each) => each.retryGaps()),
  firstStartMs: starts.length ? Math.min(...starts) - startedMs : null,
  seconds: (Date.now() - startedMs) / 1000,
  problems: problems.slice(0, 20),
};
console.log(JSON.stringify(summary));
await Promise.all(queues.map((each) => each.close()));
process.exit(summary.ok ? 0 : 1);
