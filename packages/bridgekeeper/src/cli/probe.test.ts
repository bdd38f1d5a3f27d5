import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseProfile } from '@bridgekeeper/bridge';
import { cudaAvailability, SystemClock } from '@bridgekeeper/device';
import { afterAll, describe, expect, test } from 'vitest';
import type { CliIo } from '../io.ts';
import { runCli } from './program.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-probe-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const file = (name: string) => join(scratch, name);
const clock = new SystemClock();

/** A process whose files are real and lie in `scratch`, and which nothing else is let near. */
function testIo(onLine: (line: string, signal: () => void) => void = () => {}) {
  const out: string[] = [];
  const err: string[] = [];
  let signal = () => {};
  const io: CliIo = {
    environment: { XDG_CONFIG_HOME: file('config') },
    readFile: (path) => readFileSync(path, 'utf8'),
    writeFile: (path, text) => writeFileSync(path, text),
    out: (line) => out.push(line),
    err: (line) => {
      err.push(line);
      onLine(line, signal);
    },
    isTerminal: false,
    onSignal: (action) => {
      signal = () => action('SIGINT');
    },
    nowNs: () => clock.nowNs(),
    exit: () => {},
    exitLater: () => {},
    startEngine: () => Promise.reject(new Error('a probe starts no engine')),
  };
  return { io, out, err };
}

const modelled = ['probe', '--device', 'model', '--quick'];

describe('probe', () => {
  test('writes a result that --law takes, and a page without scripts', async () => {
    const { io, out, err } = testIo();
    const files = ['--out', file('a.json'), '--html', file('a.html')];
    expect(await runCli([...modelled, '--law', 'emulate:b300-cc', ...files], io)).toBe(0);
    expect(out.join('\n')).toMatch(/^Do more contexts help\?$/m);
    expect(out.join('\n')).toMatch(/^H2D +11\.3 GB\/s +55\.7 GB\/s +0\.203x$/m);
    expect(err[0]).toMatch(/^probe 1\/\d+: crossings by size$/);
    const result = JSON.parse(readFileSync(file('a.json'), 'utf8'));
    expect(result).toMatchObject({ suite: 'probe', isComplete: true, isQuick: true });
    expect(() => parseProfile(result.profile)).not.toThrow();
    const page = readFileSync(file('a.html'), 'utf8');
    expect(page).not.toMatch(/<script|https?:\/\/(?!www\.w3\.org\/2000\/svg")/i);
    expect(page.match(/<svg/g)!.length).toBeGreaterThanOrEqual(7);
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
    const again = testIo();
    expect(await runCli([...modelled, '--law', file('a.json'), '--json'], again.io)).toBe(0);
    const second = JSON.parse(again.out[0]!);
    expect(second.facts.law).toBe(result.profile.name);
    const { idleTollNs } = second.profile.crossings.h2d.pinned;
    expect(idleTollNs).toBe(result.profile.crossings.h2d.pinned.idleTollNs);
  });

  test('compares two results, in words and as a page', async () => {
    const law = ['--law', 'emulate:h100-cc', '--out', file('b.json')];
    expect(await runCli([...modelled, ...law], testIo().io)).toBe(0);
    const { io, out } = testIo();
    const compared = ['probe', '--compare', file('a.json'), file('b.json')];
    expect(await runCli([...compared, '--html', file('c.html')], io)).toBe(0);
    expect(out.join('\n')).toMatch(/^pinned H2D: rate of 64 MiB +11\.3 GB\/s +3 GB\/s +0\.265x$/m);
    expect(out.join('\n')).toContain('! the GPUs differ');
    expect(readFileSync(file('c.html'), 'utf8')).toContain('B. To the device: time by size');
    const json = testIo();
    expect(await runCli([...compared, '--json'], json.io)).toBe(0);
    expect(JSON.parse(json.out[0]!).ratios).toHaveLength(5);
  });

  test('a signal ends it with 1 and what was measured by then', async () => {
    const { io, out } = testIo((line, signal) => {
      if (line.includes('launches')) signal();
    });
    expect(await runCli([...modelled, '--html', file('d.html')], io)).toBe(1);
    expect(out.join('\n')).toContain('! The probe was stopped: launches');
    expect(readFileSync(file('d.html'), 'utf8')).toContain('there is no profile');
  });

  test('a file that cannot be written loses nothing but itself', async () => {
    const { io, out, err } = testIo();
    const lost = ['--out', file('no/such/folder.json'), '--html', file('e.html')];
    expect(await runCli([...modelled, ...lost], io)).toBe(1);
    expect(err.join('\n')).toContain('folder.json could not be written');
    expect(out.join('\n')).toContain('Do more contexts help?');
    expect(readFileSync(file('e.html'), 'utf8')).toContain('</html>');
  });

  test.each([
    [[...modelled, '--law', 'emulate:none'], 'no reference profile'],
    [['probe', 'a.json'], 'usage: probe'],
    [['probe', '--compare', 'missing.json', 'b.json'], 'missing.json'],
  ])('%j is bad usage', async (args, message) => {
    const { io, err } = testIo();
    expect(await runCli(args, io)).toBe(2);
    expect(err.join('\n')).toContain(message);
  });

  test('without a GPU it measures none, and says what it can do', async () => {
    if (cudaAvailability().available) return;
    const { io, err } = testIo();
    expect(await runCli(['probe'], io)).toBe(1);
    expect(err.join()).toContain('there is no GPU to measure');
    const forced = testIo();
    expect(await runCli(['probe', '--device', 'cuda'], forced.io)).toBe(1);
    expect(forced.err.join()).toContain('libcuda');
  });
});
