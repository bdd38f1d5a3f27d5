import { fileURLToPath } from 'node:url';
import { readRepository } from './repository.ts';
import { report, rulesFor } from './rules.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const repository = readRepository(root);
let count = 0;
for (const [name, rule] of Object.entries(rulesFor(root))) {
  const lines = report(rule, repository);
  count += lines.length;
  if (lines.length > 0) process.stdout.write(`${name}\n${lines.map((l) => `  ${l}\n`).join('')}`);
}
process.stdout.write(`tidy: ${count} violations in ${repository.sources.length} sources\n`);
process.exitCode = count === 0 ? 0 : 1;
