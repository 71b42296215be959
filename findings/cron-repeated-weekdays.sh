#!/usr/bin/env bash
# cron-parser 4 counts the values of a weekday field before it drops repeated ones. With eight it takes the field for
# `*`, and the day of the month alone decides. cron-parser 5 refuses the pattern.
source "$(dirname "$0")/lib.sh"
npm_packages cron-parser@5.10.3 four@npm:cron-parser@4.9.0

cat >run.mjs <<'JS'
import { CronExpressionParser } from "cron-parser";
import four from "four";

const options = { currentDate: new Date("2026-12-01T12:00:00Z"), tz: "UTC" };
for (const pattern of ["0 0 1 * 1-5", "0 0 1 * 1-5,1-3"]) {
  for (const [label, parse] of [["4.9.0", four.parseExpression], ["5.10.3", CronExpressionParser.parse]]) {
    let next;
    try {
      next = parse.call(CronExpressionParser, pattern, options).next().toISOString().slice(0, 10);
    } catch (error) {
      next = `refused: ${error.message}`;
    }
    console.log(`cron-parser ${label}, ${pattern}: ${next}`);
  }
}
JS

node run.mjs >seen
expect seen <<'SEEN'
cron-parser 4.9.0, 0 0 1 * 1-5: 2026-12-02
cron-parser 5.10.3, 0 0 1 * 1-5: 2026-12-02
cron-parser 4.9.0, 0 0 1 * 1-5,1-3: 2027-01-01
cron-parser 5.10.3, 0 0 1 * 1-5,1-3: refused: CronDayOfWeek Validation error, duplicate values found: 1
SEEN
