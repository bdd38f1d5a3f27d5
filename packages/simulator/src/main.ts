import { simulate } from './simulate.ts';
const [from = 1, to = from, requests] = process.argv.slice(2).map(Number);
const began = process.hrtime.bigint();
let total = 0;
for (let seed = from; seed <= to; seed++) {
  const t = process.cpuUsage();
  const result = await simulate({ seed, requests, keepsHistory: true });
  const ms = process.cpuUsage(t).user / 1e3;
  total += result.counts.sent!;
  console.log(seed, result.digest.slice(0, 12), ms.toFixed(0), 'ms', result.virtualSeconds.toFixed(1), 's', result.steps, JSON.stringify(result.counts), result.faults.join());
  if (result.violations.length > 0) {
    console.log(result.violations.slice(0, 3));
    console.log(result.history!.slice(-8).join('\n'));
  }
}
console.log(total, 'requests', Number(process.hrtime.bigint() - began) / 1e9, 's');
