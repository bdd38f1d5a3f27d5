import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { watchSilence } from './silence.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-silence-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const pipe = join(scratch, 'pipe');
const hasPipes = spawnSync('mkfifo', [pipe]).status === 0;

test.runIf(hasPipes)('a path that does not answer is told, and waited for', async () => {
  // Opening a pipe for writing blocks until a reader comes.
  const script = `
    import { writeFileSync } from 'node:fs';
    import { sayWhenBlocked } from ${JSON.stringify(new URL('./silence.js', import.meta.url).href)};
    const path = ${JSON.stringify(pipe)};
    sayWhenBlocked(path, () => writeFileSync(path, 'the result'), 0.05);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const [line] = await once(child.stderr, 'data');
  const waiting = 'has not answered for 0.05 s; still waiting, Ctrl-C ends this';
  expect(String(line)).toBe(`bridgekeeper: ${pipe} ${waiting}\n`);
  const ended = once(child, 'exit');
  expect(readFileSync(pipe, 'utf8')).toBe('the result');
  expect(await ended).toEqual([0, null]);
});

describe('a wait', () => {
  const timers: (() => void)[] = [];
  const after = (_seconds: number, action: () => void) => {
    timers.push(action);
    return () => void timers.splice(timers.indexOf(action), 1);
  };

  test('begins anew with each answer, and is told where none comes', () => {
    const said: string[] = [];
    const silence = watchSilence(after, (line) => said.push(line));
    silence.expect('/a');
    silence.expect('/b');
    expect(timers).toHaveLength(1);
    timers[0]!();
    expect(said).toEqual([
      'bridgekeeper: /b has not answered for 10 s; still waiting, Ctrl-C ends this',
    ]);
    silence.expect('/c');
    silence.end();
    expect(timers).toEqual([]);
  });
});
