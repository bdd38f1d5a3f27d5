import { fileURLToPath } from 'node:url';
import { type Repository, readRepository } from './repository.ts';
import { describeFolders } from './rules/folders.ts';
import { report, rulesFor } from './rules.ts';

const usage = `usage: npm run tidy [-- --folders]
  without arguments: every rule of the repository, and each place that breaks it
  --folders: which folders of a package use which, and the circles between them
`;

function check(root: string, repository: Repository): void {
  let count = 0;
  for (const [name, rule] of Object.entries(rulesFor(root))) {
    const lines = report(rule, repository);
    count += lines.length;
    if (lines.length > 0) process.stdout.write(`${name}\n${lines.map((l) => `  ${l}\n`).join('')}`);
  }
  process.stdout.write(`tidy: ${count} violations in ${repository.sources.length} sources\n`);
  process.exitCode = count === 0 ? 0 : 1;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
const [mode, ...rest] = process.argv.slice(2);
if (rest.length > 0 || (mode !== undefined && mode !== '--folders')) {
  process.stderr.write(usage);
  process.exitCode = 2;
} else {
  const repository = readRepository(root);
  if (mode === '--folders') process.stdout.write(describeFolders(repository));
  else check(root, repository);
}
