// What the digest of the program's files takes, which the first report of a server waits for:
// node docs/results/attest/program-digest.mjs <built checkout> [times]
import { resolve } from 'node:path';

const [root, times = '7'] = process.argv.slice(2);
const packages = resolve(root, 'packages');
const { digestFiles } = await import(`${packages}/server/dist/evidence/software.js`);
const runs = [];
for (let run = 0; run < Number(times); run++) {
  const began = process.cpuUsage();
  const startedMs = performance.now();
  await digestFiles(packages);
  const ms = performance.now() - startedMs;
  const { user, system } = process.cpuUsage(began);
  runs.push({ ms: Math.round(ms), cpuMs: Math.round((user + system) / 1000) });
}
const median = (of) => runs.map((run) => run[of]).sort((a, b) => a - b)[runs.length >> 1];
console.log(JSON.stringify({ medianMs: median('ms'), medianCpuMs: median('cpuMs'), runs }));
