import { spawn } from 'node:child_process';
import {
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { emptyState } from '../tenancy/state.ts';
import { FileStore, lockAgent } from './store.ts';

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fabric-store-'));
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe('the state on disk', () => {
  it('is what was written last', async () => {
    const store = new FileStore(folder);
    expect(await store.read()).toBeNull();
    await store.replace({ ...emptyState('host-1'), bootId: 'one' });
    await store.replace({ ...emptyState('host-1'), bootId: 'two' });
    expect((await new FileStore(folder).read())?.bootId).toBe('two');
  });

  it.each([
    ['cut short', (path: string) => truncateSync(path, 100)],
    ['empty', (path: string) => truncateSync(path, 0)],
    ['changed', (path: string) => writeFileSync(path, `${readFileSync(path, 'utf8')} `)],
    ['of no state', (path: string) => writeFileSync(path, 'x'.repeat(200))],
  ])('is refused when it is %s, and not read as if there were none', async (_what, change) => {
    const store = new FileStore(folder);
    await store.replace(emptyState('host-1'));
    change(join(folder, 'state'));
    await expect(store.read()).rejects.toMatchObject({ code: 'state-broken' });
  });

  it('is the one before where a new one cannot be written', async () => {
    const store = new FileStore(folder);
    await store.replace({ ...emptyState('host-1'), bootId: 'one' });
    // A device that is always full, where the new file goes.
    symlinkSync('/dev/full', join(folder, 'state.new'));
    await expect(store.replace(emptyState('host-1'))).rejects.toMatchObject({ code: 'disk-full' });
    expect((await store.read())?.bootId).toBe('one');
  });

  it('is whole whenever its writer is killed', { timeout: 60_000 }, async () => {
    // Writes states of ever greater size and number as fast as it can, and says which it began.
    const module = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);
    const script = `
      const { FileStore } = await import(${module('./store.js')});
      const { emptyState } = await import(${module('../tenancy/state.js')});
      const store = new FileStore(${JSON.stringify(folder)});
      for (let number = 1; ; number += 1) {
        const bootId = String(number).padEnd(100_000, '.');
        await store.replace({ ...emptyState('host-1'), bootId });
        process.stdout.write(number + '\\n');
      }`;
    for (let kills = 0; kills < 5; kills += 1) {
      const writer = spawn(process.execPath, ['--input-type=module', '-e', script]);
      let said = '';
      await new Promise<void>((resolve) => {
        writer.stdout.on('data', (chunk: Buffer) => {
          said += chunk.toString();
          if (said.split('\n').length > 5 + kills) writer.kill('SIGKILL');
        });
        writer.on('close', () => resolve());
      });
      const acknowledged = Number(said.trimEnd().split('\n').at(-1));
      const state = await new FileStore(folder).read();
      expect(Number.parseInt(state!.bootId, 10)).toBeGreaterThanOrEqual(acknowledged);
    }
  });
});

describe('the lock of a host’s agent', () => {
  it('is one agent’s until it ends', () => {
    const one = lockAgent(folder);
    expect(() => lockAgent(folder)).toThrow(expect.objectContaining({ code: 'agent-running' }));
    one.unlock();
    lockAgent(folder).unlock();
  });
});
