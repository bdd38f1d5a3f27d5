import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-fleet-input-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

/** What a command says and ends with, where files are these and no others. */
async function ended(words: readonly string[], files: Readonly<Record<string, string>> = {}) {
  const { io, err } = testIo({
    readFile: (path) => {
      const text = files[path];
      if (text === undefined) throw new Error('ENOENT: no such file');
      return text;
    },
  });
  return { code: await runCli([...words], io), said: err.join('\n') };
}

const agent = ['agent', '--token', 'x', '--folder', join(scratch, 'agent')];

test.each([
  [['--vmm', 'dstack', '--dstack', 'host.json'], {}, '--dstack: host.json cannot be read'],
  [['--vmm', 'dstack', '--dstack', 'host.json'], { 'host.json': '{' }, 'is no JSON'],
  [['--vmm', 'dstack', '--dstack', 'host.json'], { 'host.json': '{}' }, 'url: '],
  [['--vmm', 'kubernetes', '--kubernetes', 'n'], {}, '--kubernetes: n cannot be read'],
  [['--vmm', 'kubernetes', '--kubernetes', 'n'], { n: '[]' }, 'the description of the node'],
  [['--images', 'images.json'], {}, '--images: images.json cannot be read'],
  [['--images', 'images.json'], { 'images.json': '{' }, '--images: images.json is no JSON'],
  [['--images', 'images.json'], { 'images.json': '{"a": 1}' }, 'must be such as'],
  [['--control', 'nowhere'], {}, '--control: must be an address such as http://host:port'],
] as const)('agent %j with %j says what is wrong', async (words, files, what) => {
  const { code, said } = await ended([...agent, ...words], files);
  expect(code).toBe(2);
  expect(said).toContain(what);
  expect(said).not.toContain('    at ');
});

test('an agent whose identity is broken says what to do', async () => {
  const folder = join(scratch, 'broken');
  mkdirSync(folder);
  for (const name of ['agent.crt', 'agent.key', 'control.crt']) {
    writeFileSync(join(folder, name), 'nothing');
  }
  const { code, said } = await ended(['agent', '--folder', folder]);
  expect(code).toBe(1);
  expect(said).toMatch(/has no identity that can be used .*remove it and join anew/);
  expect(said).not.toContain('    at ');
});

test.each([
  [['gateway', '--control', 'nowhere', '--control-key-file', 'k'], '--control: must be an address'],
  [['gateway', '--control', 'http://127.0.0.1:1'], '--control wants --control-key-file'],
  [
    ['gateway', '--control', 'http://127.0.0.1:1', '--control-key-file', 'k'],
    '--control-key-file: cannot read k',
  ],
  [['control', 'list', 'hosts', '--url', 'nowhere', '--key', 'k'], '--url: must be an address'],
])('%j says what is wrong', async (words, what) => {
  const { code, said } = await ended(words);
  expect(code).toBe(2);
  expect(said).toContain(what);
});

test('control that cannot listen or has no folder says so, and ends', async () => {
  const server = createServer();
  const port = await new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port));
  });
  const folder = join(scratch, 'control');
  const words = ['control', '--folder', folder, '--agent-port', '0', '--offline'];
  const { code, said } = await ended([...words, '--port', String(port)]);
  server.close();
  expect(code).toBe(2);
  expect(said).toContain(`cannot listen on 127.0.0.1:${port} (EADDRINUSE): give another port`);
  writeFileSync(join(scratch, 'file'), '');
  const inFile = ['control', '--folder', join(scratch, 'file', 'in'), '--port', '0'];
  const without = await ended(inFile);
  expect(without.code).toBe(1);
  expect(without.said).toContain('cannot be made');
});
