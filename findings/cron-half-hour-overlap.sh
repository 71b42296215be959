#!/usr/bin/env bash
# cron-parser 5 finds no run of a daily pattern where clocks are set back by half an hour; cron-parser 4 does.
source "$(dirname "$0")/lib.sh"
npm_packages cron-parser@5.10.3 four@npm:cron-parser@4.9.0

cat >run.mjs <<'JS'
import { CronExpressionParser } from "cron-parser";
import four from "four";

const options = { currentDate: new Date("2027-04-03T12:00:00Z"), tz: "Australia/Lord_Howe" };
for (const [label, parse] of [["4.9.0", four.parseExpression], ["5.10.3", CronExpressionParser.parse]]) {
  let next;
  try {
    next = parse.call(CronExpressionParser, "0 2 * * *", options).next().toISOString();
  } catch (error) {
    next = `raised: ${error.message}`;
  }
  console.log(`cron-parser ${label}, 0 2 * * *: ${next}`);
}
JS

node run.mjs >seen
expect seen <<'SEEN'
cron-parser 4.9.0, 0 2 * * *: 2027-04-03T15:30:00.000Z
cron-parser 5.10.3, 0 2 * * *: raised: Invalid expression, loop limit exceeded
SEEN
