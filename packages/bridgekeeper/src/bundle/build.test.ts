import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Bundle, buildBundle } from './build.ts';
import { type Manifest, manifestDigest } from './manifest.ts';

const root = fileURLToPath(new URL('../../../..', import.meta.url)).replace(/\/$/, '');
const hasTar = spawnSync('tar', ['--version']).error === undefined;

// Without a tar on this machine only what needs no unpacking is tested.
describe('the bundle of this repository', () => {
  const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-bundle-'));
  let bundle: Bundle;
  let home: string;
  let manifest: Manifest;

  const build = (folder: string): Promise<Bundle> =>
    buildBundle({ root, outFolder: join(scratch, folder), gzipLevel: 1, progress: () => {} });

  beforeAll(async () => {
    bundle = await build('first');
    if (!hasTar) return;
    execFileSync('tar', ['-xzf', bundle.path, '-C', scratch]);
    home = join(scratch, bundle.path.replace(/^.*\/(.*)\.tar\.gz$/, '$1'));
    manifest = JSON.parse(readFileSync(join(home, 'bundle.json'), 'utf8'));
  });

  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  test('is the same bytes when it is built again', async () => {
    const again = await build('second');
    expect(again).toEqual({ ...bundle, path: again.path });
    const bytes = readFileSync(again.path);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(bundle.sha256);
    expect(bytes.length).toBe(bundle.bytes);
  });

  test.runIf(hasTar)('holds what its manifest says, and nothing else', () => {
    expect(manifestDigest(manifest)).toBe(bundle.digest);
    expect(manifest.digest).toBe(bundle.digest);
    const listed = manifest.files.map(({ path }) => path);
    const under = (folder: string): string[] =>
      readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
        const path = join(folder, entry.name);
        return entry.isDirectory() ? under(path) : [path.slice(home.length + 1)];
      });
    expect(under(home).sort()).toEqual([...listed, 'bundle.json'].sort());
    for (const file of manifest.files) {
      const path = join(home, file.path);
      if ('link' in file) {
        expect(readlinkSync(path)).toBe(file.link);
        expect(statSync(path).isDirectory()).toBe(true);
      } else {
        const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex');
        expect({ path: file.path, sha256 }).toEqual({ path: file.path, sha256: file.sha256 });
      }
    }
  });

  test.runIf(hasTar)('leaves out what only developers need', () => {
    const paths = manifest.files.map(({ path }) => path);
    expect(paths.filter((path) => /\/tests?\/|\.map$|\.[cm]?ts$/.test(path))).toEqual([]);
    expect(paths.filter((path) => /^packages\/.*\.test\.js$/.test(path))).toEqual([]);
    const tools = ['typescript', 'vitest', '@biomejs', 'fast-check', 'openai'];
    for (const tool of tools) {
      expect(paths.filter((path) => path.startsWith(`node_modules/${tool}/`))).toEqual([]);
    }
    const here = `${process.platform}-${process.arch}`;
    const native = paths.flatMap((path) => /\/prebuilds\/([^/]+)\//.exec(path)?.[1] ?? []);
    expect([...new Set(native)]).toEqual([here]);
    expect(paths).toContain('node_modules/zod/package.json');
    expect(paths).toContain('models/storyteller/model.safetensors');
  });

  test.runIf(hasTar)('runs with an empty environment and reports its digest', () => {
    const program = join(home, 'bin/bridgekeeper');
    const run = spawnSync(program, ['version', '--json'], {
      cwd: '/',
      env: { PATH: '/nonexistent' },
      encoding: 'utf8',
    });
    expect(run).toMatchObject({ status: 0, stderr: '' });
    expect(JSON.parse(run.stdout)).toMatchObject({
      version: manifest.version,
      digest: bundle.digest,
    });
  });
});
