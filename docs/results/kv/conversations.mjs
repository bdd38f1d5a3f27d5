// Conversations as a trace for `plan`: one of eight system prompts, then turns that each go on
// behind all before: node conversations.mjs <conversations> <a second> <system tokens> <file>
import { writeFileSync } from 'node:fs';
const [conversations, perSecond, systemTokens, file] = [
  ...process.argv.slice(2, 5).map(Number),
  process.argv[5],
];
let seed = 1;
const draw = () => {
  seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
  return seed / 2 ** 32;
};
const CHUNK = 64;
const lines = [];
let ids = 1000;
let at = 0;
for (let c = 0; c < conversations; c++) {
  at += -Math.log(1 - draw()) / perSecond;
  const system = Math.floor(draw() * 8);
  const hash = Array.from({ length: systemTokens / CHUNK }, (_, i) => system * 100 + i + 1);
  const turns = 1 + Math.floor(draw() * 8);
  let when = at;
  for (let t = 0; t < turns; t++) {
    const user = 1 + Math.floor(draw() * 24);
    for (let i = 0; i < user; i++) hash.push(ids++);
    const out = 64 + Math.floor(draw() * 448);
    lines.push({
      timestamp: Math.round(when * 1000),
      input_length: hash.length * CHUNK,
      output_length: out,
      hash_ids: [...hash],
    });
    for (let i = 0; i < Math.ceil(out / CHUNK); i++) hash.push(ids++);
    when += 15 + draw() * 60;
  }
}
lines.sort((a, b) => a.timestamp - b.timestamp);
writeFileSync(file, lines.map((l) => JSON.stringify(l)).join('\n') + '\n');
console.log(lines.length, lines.reduce((s, l) => s + l.input_length, 0) / lines.length);
