import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { HOST_CLOCK } from '../host-clock.ts';
import { HandClock } from '../testing/hand-clock.ts';
import { fileAt, isSameFile, type OwnedFile, own } from './owner.ts';

let folder: string;
let file: string;
let waits: string[];
let clock: HandClock;
const owned: OwnedFile[] = [];
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'owner-'));
  file = join(folder, 'receipts.sqlite');
  waits = [];
  clock = new HandClock();
});
afterEach(async () => {
  for (const { release } of owned.splice(0)) release();
  for (const child of children.splice(0)) await end(child);
  rmSync(folder, { recursive: true, force: true });
});

async function take(path = file, waitSeconds = 0): Promise<OwnedFile> {
  const onWait = (message: string) => waits.push(message);
  const file = await own(path, { clock, waitSeconds, onWait });
  owned.push(file);
  return file;
}

const giveBack = () => owned.pop()!.release();

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}

const IN_USE = { code: 'in-use' };

/** Another process that owns `path`, until it is killed; `wrapper` begins its command line. */
async function ownElsewhere(path: string, wrapper: readonly string[] = []): Promise<ChildProcess> {
  const script = `
    const { own } = await import(process.argv[1]);
    const clock = { nowNs: () => 0, sleepUntilNs: async () => {} };
    await own(process.argv[2], { clock, waitSeconds: 0, onWait: () => {} });
    console.log(process.pid);
    setInterval(() => {}, 1000);
  `;
  const module = fileURLToPath(new URL('./owner.js', import.meta.url));
  const node = [process.execPath, '--input-type=module', '-e', script, module, path];
  const [command, ...args] = [...wrapper, ...node];
  const child = spawn(command!, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const ends = once(child, 'exit').then(() => {
    throw new Error('it ended');
  });
  await Promise.race([once(child.stdout!, 'data'), ends]);
  return child;
}

describe('a file', () => {
  it('has one owner, under every name that leads to it', async () => {
    const link = join(folder, 'link');
    symlinkSync(file, link);
    const { path } = await take(link);
    expect(path).toBe(file);
    for (const name of [file, link]) {
      await expect(take(name)).rejects.toMatchObject({
        ...IN_USE,
        message: `${name} is in use by another process`,
      });
    }
    giveBack();
    expect((await take()).path).toBe(file);
    expect(waits).toEqual([]);
  });

  it('is owned by one process, and by none once that is killed', async () => {
    const link = join(folder, 'link');
    symlinkSync(file, link);
    const child = await ownElsewhere(link);
    await expect(take()).rejects.toMatchObject(IN_USE);
    await end(child);
    await take();
  });

  const unshare = ['unshare', '--pid', '--user', '--map-root-user', '--fork', '--kill-child'];
  const hasNamespaces = spawnSync(unshare[0]!, [...unshare.slice(1), 'true']).status === 0;
  it.runIf(hasNamespaces)('is owned across namespaces of processes', async () => {
    const child = await ownElsewhere(file, unshare);
    await expect(take()).rejects.toMatchObject(IN_USE);
    await end(child);
    // The one inside is killed with its parent, and closes its files a moment later.
    owned.push(await own(file, { clock: HOST_CLOCK, waitSeconds: 60, onWait: () => {} }));
    await expect(ownElsewhere(file, unshare)).rejects.toThrow('it ended');
  });

  it('is waited for, for so long, and that is said once', async () => {
    const first = await take();
    await expect(take(file, 5)).rejects.toMatchObject(IN_USE);
    expect(clock.nowNs()).toBe(5e9);
    const message = `${file} is in use by another process: waiting up to 5 s for it`;
    expect(waits).toEqual([message]);
    const second = take(file, 5);
    owned.splice(owned.indexOf(first), 1);
    first.release();
    expect((await second).path).toBe(file);
    expect(clock.nowNs()).toBe(5.2e9);
    expect(waits).toEqual([message, message]);
  });

  it('is made, with its folder, for its owner only', async () => {
    const inside = join(folder, 'a/b/receipts.sqlite');
    await take(inside);
    expect(statSync(inside).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder, 'a/b')).mode & 0o777).toBe(0o700);
    expect(statSync(inside).size).toBe(0);
  });

  it('is made where a link leads', async () => {
    symlinkSync(join(folder, 'elsewhere'), file);
    expect((await take()).path).toBe(join(folder, 'elsewhere'));
  });

  it('keeps what it holds', async () => {
    writeFileSync(file, 'what it holds');
    chmodSync(file, 0o644);
    await take();
    giveBack();
    expect(readFileSync(file, 'utf8')).toBe('what it holds');
    expect(statSync(file).mode & 0o777).toBe(0o644);
  });

  it('is refused, and why, where it cannot be opened', async () => {
    mkdirSync(file);
    await expect(take()).rejects.toMatchObject({
      name: 'ReceiptsError',
      code: 'bad-file',
      message: `cannot open ${file}: EISDIR`,
    });
    writeFileSync(join(folder, 'text'), '');
    await expect(take(join(folder, 'text/x'))).rejects.toThrow(/x: (ENOTDIR|EEXIST)$/);
    await expect(take(join(folder, '\0'))).rejects.toThrow(/: ERR_INVALID_ARG_VALUE$/);
    expect(existsSync(join(folder, '\\0'))).toBe(false);
  });
});

test('a file is the same by its place, not by its name', () => {
  const other = join(folder, 'other');
  writeFileSync(file, 'one');
  writeFileSync(other, 'one');
  const one = fileAt(file)!;
  expect(isSameFile(one, fileAt(file))).toBe(true);
  expect(isSameFile(one, fileAt(other))).toBe(false);
  expect(isSameFile(one, { ...one, dev: one.dev + 1n })).toBe(false);
  renameSync(file, join(folder, 'moved'));
  expect(isSameFile(one, fileAt(file))).toBe(false);
  expect(isSameFile(one, fileAt(join(folder, 'moved')))).toBe(true);
  expect(fileAt(file)).toBeUndefined();
});
