#!/usr/bin/env bash
# With bullmq-otel every run of a scheduler is a child of the span that made the scheduler, for as long as it lives: one
# trace grows by each run. The span that adds the next run is alone in a trace of its own.
source "$(dirname "$0")/lib.sh"
npm_packages bullmq@6.7.0 bullmq-otel@2.0.1 ioredis@5.11.1 @opentelemetry/api@1.9.1 @opentelemetry/core@2.12.1 \
  @opentelemetry/sdk-trace-base@2.12.1 @opentelemetry/context-async-hooks@2.12.1
start_redis

cat >run.mjs <<'JS'
import { context, propagation, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { Queue, Worker } from "bullmq";
import { BullMQOtel } from "bullmq-otel";
import { Redis } from "ioredis";

const exporter = new InMemorySpanExporter();
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(new W3CTraceContextPropagator());

const connection = new Redis(Number(process.argv[2]), "127.0.0.1", { maxRetriesPerRequest: null });
const telemetry = new BullMQOtel("app");
const queue = new Queue("jobs", { connection, telemetry });
await queue.upsertJobScheduler("tick", { every: 100 }, { name: "tick" });
let runs = 0;
await new Promise((resolve) => {
  const worker = new Worker("jobs", async () => {
    runs += 1;
    if (runs === 5) worker.close().then(resolve);
  }, { connection, telemetry });
});

const spans = exporter.getFinishedSpans();
const upsert = spans[0];
const processed = spans.filter((span) => span.name.startsWith("process "));
const children = processed.filter((span) => span.parentSpanContext?.spanId === upsert.spanContext().spanId);
console.log(`runs: ${processed.length}; children of the upsert's span: ${children.length}`);
const later = spans.filter((span) => span !== upsert && span.name.startsWith("add "));
const traceId = (span) => span.spanContext().traceId;
const alone = (span) => spans.filter((other) => traceId(other) === traceId(span)).length === 1;
console.log(`spans that add a later run: each alone in its trace: ${later.length > 0 && later.every(alone)}`);
await queue.close();
connection.disconnect();
JS

node run.mjs "$port" >seen
expect seen <<'SEEN'
runs: 5; children of the upsert's span: 5
spans that add a later run: each alone in its trace: true
SEEN
