import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemClock } from '@bridgekeeper/device';
import { afterAll, expect, test } from 'vitest';
import type { CliIo } from '../io.ts';
import { runCli } from './program.ts';

const root = mkdtempSync(join(tmpdir(), 'fabric-cli-'));
afterAll(() => rmSync(root, { recursive: true }));

function testIo() {
  const out: string[] = [];
  const err: string[] = [];
  const clock = new SystemClock();
  let stop = () => {};
  const io: CliIo = {
    environment: {},
    readFile: (path) => readFileSync(path, 'utf8'),
    writeFile: (path, text) => writeFileSync(path, text),
    out: (line) => out.push(line),
    err: (line) => err.push(line),
    isTerminal: false,
    onSignal: (action) => {
      stop = () => action('SIGINT');
    },
    nowNs: () => clock.nowNs(),
    exit: () => {},
    exitLater: () => {},
    startEngine: () => Promise.reject(new Error('no engine is started here')),
  };
  return { io, out, err, stop: () => stop() };
}

test('a modelled fabric is probed, as lines and as a document', async () => {
  const { io, out } = testIo();
  expect(await runCli(['fabric', 'probe', '--device', 'model', '--json'], io)).toBe(0);
  expect(JSON.parse(out[0]!)).toMatchObject({ device: 'model', findings: [] });
  const floor = ['--device', 'model', '--floor', '500'];
  expect(await runCli(['fabric', 'probe', ...floor], io)).toBe(1);
});

test('a replay wants a key, a witness or none on purpose, and a log', async () => {
  const { io, err } = testIo();
  const folder = join(root, 'log');
  mkdirSync(folder);
  expect(await runCli(['fabric', 'replay', folder], io)).toBe(2);
  const key = ['--log-key', 'sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8'];
  expect(await runCli(['fabric', 'replay', folder, ...key], io)).toBe(2);
  expect(err.at(-1)).toMatch('--witness-min 0 accepts that');
  expect(await runCli(['fabric', 'replay', folder, ...key, '--witness-min', '0'], io)).toBe(1);
  expect(err.at(-1)).toMatch('ENOENT');
});

test('a witness says its key and where it listens, and ends when it is told to', async () => {
  const { io, out, stop } = testIo();
  const key = 'sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8';
  const args = [
    '--name',
    'w.example',
    '--log-key',
    key,
    '--folder',
    join(root, 'w'),
    '--port',
    '0',
  ];
  const running = runCli(['witness', ...args], {
    ...io,
    out: (line) => {
      out.push(line);
      // What listens for signals is there in the same turn.
      setImmediate(stop);
    },
  });
  expect(await running).toBe(0);
  expect(out[0]).toMatch(
    /^w\.example\+[0-9a-f]{8}\+\S+\nhttp:\/\/127\.0\.0\.1:\d+\/add-checkpoint$/,
  );
});
