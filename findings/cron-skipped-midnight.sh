#!/usr/bin/env bash
# cron-parser leaves out a day of a daily pattern when the clocks go from 00:00 to 01:00 and the time is in that hour.
source "$(dirname "$0")/lib.sh"
npm_packages cron-parser@5.10.3 four@npm:cron-parser@4.9.0

cat >run.mjs <<'JS'
import { CronExpressionParser } from "cron-parser";
import four from "four";

// On 2026-04-24 in Cairo 00:00 becomes 01:00; on 2026-03-08 in Havana too.
const places = [["Africa/Cairo", "2026-04-23T12:00:00Z"], ["America/Havana", "2026-03-07T12:00:00Z"]];
for (const [label, parse] of [["4.9.0", four.parseExpression], ["5.10.3", CronExpressionParser.parse]]) {
  for (const [tz, after] of places) {
    const series = parse.call(CronExpressionParser, "10 0 * * *", { currentDate: new Date(after), tz });
    const days = [series.next(), series.next()].map((run) => run.toISOString().slice(0, 16));
    console.log(`cron-parser ${label}, 10 0 * * * in ${tz} after ${after.slice(0, 16)}Z: ${days.join("Z, ")}Z`);
  }
}
JS

node run.mjs >seen
expect seen <<'SEEN'
cron-parser 4.9.0, 10 0 * * * in Africa/Cairo after 2026-04-23T12:00Z: 2026-04-24T21:10Z, 2026-04-25T21:10Z
cron-parser 4.9.0, 10 0 * * * in America/Havana after 2026-03-07T12:00Z: 2026-03-09T04:10Z, 2026-03-10T04:10Z
cron-parser 5.10.3, 10 0 * * * in Africa/Cairo after 2026-04-23T12:00Z: 2026-04-24T21:10Z, 2026-04-25T21:10Z
cron-parser 5.10.3, 10 0 * * * in America/Havana after 2026-03-07T12:00Z: 2026-03-09T04:10Z, 2026-03-10T04:10Z
SEEN
