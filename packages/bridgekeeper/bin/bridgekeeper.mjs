#!/usr/bin/env node
// What `npx bridgekeeper` starts. It is here before anything is compiled, so that npm can link it.

import { existsSync } from 'node:fs';
import { isCurrent, packed, program } from './current.mjs';

const main = new URL('../dist/main.js', import.meta.url);
/** Commands for which the one file has all that they need. */
const inProgram = ['measure', 'verify', 'verify-bundle', 'version'];

if (existsSync(main)) {
  const made = inProgram.includes(process.argv[2]) ? program : packed;
  await import((isCurrent(made) ? made : main).href);
} else {
  process.stderr.write('bridgekeeper: not built yet: run `npm run build` in the repository.\n');
  process.exitCode = 1;
}
