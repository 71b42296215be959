// Reads `{name: source}` of Lua scripts as JSON on stdin; prints `[[name, line, problem]…]`. Run where luaparse is installed.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const luaparse = createRequire(`${process.cwd()}/`)('luaparse');
// What Redis gives a script.
const KNOWN = new Set(`KEYS ARGV redis cjson cmsgpack bit struct string table math type tostring tonumber pairs ipairs next
  pcall error unpack select setmetatable getmetatable rawget rawset assert`.split(/\s+/));

const problems = [];
for (const [name, source] of Object.entries(JSON.parse(readFileSync(0, 'utf8')))) {
  try {
    // Names that are used where no `local` declares them, each where it is met first.
    const { globals } = luaparse.parse(source, { luaVersion: '5.1', scope: true, locations: true });
    for (const { name: word, loc } of globals) {
      if (!KNOWN.has(word)) {
        problems.push([name, loc.start.line, `unknown name ${word}`]);
      }
    }
  } catch (problem) {
    problems.push([name, problem.line ?? 0, problem.message]);
  }
}
console.log(JSON.stringify(problems));
