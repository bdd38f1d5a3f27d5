import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { commonVariants, LIBRARY_INDEX } from '@bridgekeeper/device/kernels';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compileKernels, compilerName } from './compile-kernels.ts';

const hasNvcc = spawnSync('nvcc', ['--version']).status === 0;
const VARIANTS = commonVariants().filter(({ unit }) => unit === 'rows' || unit === 'linear-widen');

/** Stands for nvcc: its answers are the arguments it was called with. */
const ECHO = `#!/bin/sh
if [ "$1" = --version ]; then echo "Cuda compilation tools, release 9.1, V9.1.2"; exit 0; fi
for last; do :; done
if grep -q syntax_error "$last"; then echo "$last(1): error" >&2; exit 1; fi
while [ $# -gt 0 ]; do if [ "$1" = -o ]; then out=$2; fi; all="$all $1"; shift; done
echo "$all" > "$out"
`;

describe('kernels compiled ahead', () => {
  let folder: string;
  let nvcc: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'compile-kernels-'));
    nvcc = join(folder, 'nvcc');
    writeFileSync(nvcc, ECHO, { mode: 0o755 });
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const compile = (variants = VARIANTS, lines: string[] = []) =>
    compileKernels({
      variants,
      folder: join(folder, 'compiled'),
      nvcc,
      progress: (line) => lines.push(line),
    });

  it('are one file each with every target, listed with their digests', async () => {
    const index = await compile();
    expect(index.compiler).toBe('nvcc 9.1.2');
    expect(
      Object.values(index.files)
        .map(({ unit }) => unit)
        .sort(),
    ).toEqual(['linear-widen', 'rows']);
    const names = readdirSync(join(folder, 'compiled')).sort();
    const files = Object.keys(index.files).map((key) => `${key}.fatbin`);
    expect(names).toEqual([...files, LIBRARY_INDEX].sort());
    const text = readFileSync(join(folder, 'compiled', files[0]!), 'utf8');
    expect(text).toContain('-gencode=arch=compute_103a,code=sm_103a');
    expect(text).toContain('-gencode=arch=compute_90,code=compute_90');
    expect(text).not.toContain('default-device');
  });

  it('are compiled again only where something changed, and go when unwanted', async () => {
    const first = await compile();
    const path = (key: string) => join(folder, 'compiled', `${key}.fatbin`);
    const [one, other] = Object.keys(first.files) as [string, string];
    const written = (key: string) => statSync(path(key)).mtimeMs;
    const before = written(one);
    writeFileSync(path(other), 'damaged');
    const lines: string[] = [];
    expect(await compile(VARIANTS, lines)).toEqual(first);
    expect(lines[0]).toBe('compiling 1 of 2 kernels with nvcc 9.1.2');
    expect(written(one)).toBe(before);
    await compile(VARIANTS.slice(0, 1));
    expect(readdirSync(join(folder, 'compiled'))).toHaveLength(2);
  });

  it('say which did not compile, for what, and why', async () => {
    writeFileSync(nvcc, ECHO.replace('syntax_error', 'include'), { mode: 0o755 });
    await expect(compile()).rejects.toMatchObject({
      code: 'bad-kernel',
      // Several compile at once: either may be the first that fails.
      message: expect.stringMatching(
        /(rows|linear-widen)[.]cu for sm_90a, .*compute_90 \{\} did not compile:\n/,
      ),
    });
    nvcc = join(folder, 'nowhere');
    expect(await compilerName(nvcc)).toBeNull();
    await expect(compile()).rejects.toMatchObject({ code: 'no-compiler' });
  });

  // Every kernel for every GPU takes minutes: the bundle's build does that.
  it.runIf(hasNvcc)('are the same bytes when they are compiled again', async () => {
    nvcc = 'nvcc';
    const variants = VARIANTS.map((variant) => ({
      ...variant,
      targets: ['sm_90a', 'sm_103a', 'sm_120a'],
    }));
    const first = await compile(variants);
    rmSync(join(folder, 'compiled'), { recursive: true });
    expect(await compile(variants)).toEqual(first);
  });
});
