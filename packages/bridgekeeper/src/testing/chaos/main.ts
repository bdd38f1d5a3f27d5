import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CHAOS_FAULTS, runChaos } from './chaos.ts';
import { machineOf } from './machine.ts';
import { drawSoak, soak } from './soak.ts';

// npm run soak -- --minutes 60 --out <folder>
// npm run chaos -- --seed 1 --minutes 5 --out <folder>

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string' },
    clients: { type: 'string' },
    seed: { type: 'string', default: '1' },
    faults: { type: 'string', default: CHAOS_FAULTS.join(',') },
    rest: { type: 'string', default: '2' },
    sample: { type: 'string', default: '30' },
    program: { type: 'string' },
    out: { type: 'string' },
  },
});
const [task = 'chaos'] = positionals;
const { seed, program } = values;
const say = (line: string) => void process.stderr.write(`${line}\n`);

function save(name: string, text: string): void {
  if (values.out === undefined) return;
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, name), text);
}

async function soaked(): Promise<boolean> {
  const { minutes = '60', clients = '2', rest, sample } = values;
  const result = await soak({
    minutes: Number(minutes),
    clients: Number(clients),
    restSeconds: Number(rest),
    sampleSeconds: Number(sample),
    program,
    tell: say,
  });
  const command = `npm run soak -- --minutes ${minutes} --clients ${clients} --rest ${rest}`;
  const { samples, ...summary } = result;
  const parts = {
    held: samples.map(({ firstTokenMs, answerMs, ...held }) => held),
    latency: samples.map(({ minute, firstTokenMs, answerMs }) => ({
      minute,
      firstTokenMs,
      answerMs,
    })),
  };
  // A picture and its data have one name.
  for (const what of ['held', 'latency'] as const) {
    const document = { ...machineOf(command), result: { ...summary, samples: parts[what] } };
    save(`soak-${what}.json`, `${JSON.stringify(document, null, 1)}\n`);
    save(`soak-${what}.svg`, drawSoak(result, what));
  }
  say(JSON.stringify(summary));
  const { otherTexts, faults, exitCode, receipts } = result;
  return otherTexts === 0 && faults.length === 0 && exitCode === 0 && receipts.lost === 0;
}

async function wasChaos(): Promise<boolean> {
  const { minutes = '1', clients = '6', faults } = values;
  const result = await runChaos({
    seed: Number(seed),
    seconds: Number(minutes) * 60,
    clients: Number(clients),
    faults: faults.split(','),
    program,
    tell: say,
  });
  const command = `npm run chaos -- --seed ${seed} --minutes ${minutes} --clients ${clients}`;
  save('chaos.json', `${JSON.stringify({ ...machineOf(command), result }, null, 1)}\n`);
  say(JSON.stringify(result, null, 1));
  return result.violations.length === 0;
}

/** The same command where nothing else is reached by its faults: own network, own mounts. */
function apart(): number | null {
  if (process.env.CHAOS_APART !== undefined) return null;
  const alone = ['unshare', '--net', '--mount'];
  if (spawnSync(alone[0]!, [...alone.slice(1), 'true']).status !== 0) return null;
  const again = [process.execPath, ...process.argv.slice(1)].map((word) => `'${word}'`).join(' ');
  const { status } = spawnSync(
    alone[0]!,
    [...alone.slice(1), 'sh', '-c', `ip link set lo up; exec ${again}`],
    { stdio: 'inherit', env: { ...process.env, CHAOS_APART: '1' } },
  );
  return status ?? 1;
}

const code = task === 'soak' ? null : apart();
if (code !== null) process.exit(code);
const isWhole = await (task === 'soak' ? soaked() : wasChaos());
process.exitCode = isWhole ? 0 : 1;
