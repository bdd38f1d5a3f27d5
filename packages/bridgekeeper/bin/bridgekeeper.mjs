#!/usr/bin/env node
// What `npx bridgekeeper` starts. It is here before anything is compiled, so that npm can link it.

import { existsSync } from 'node:fs';

const main = new URL('../dist/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  process.stderr.write('bridgekeeper: not built yet: run `npm run build` in the repository.\n');
  process.exitCode = 1;
}
