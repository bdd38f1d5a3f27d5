import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';

const FOLDER = join(import.meta.dirname, 'packed');
const isBuilt = existsSync(join(FOLDER, 'main.mjs'));
if (!isBuilt) {
  process.stderr.write('Not tested, as there is no dist/packed (npm run build makes it).\n');
}

/** Places that there need not be: of a bundle, of what was compiled or measured ahead, of tests. */
const MAY_BE_MISSING = /\/(?:bundle\.json|device\/(?:compiled|algorithms)\/|shared\/vectors\/)$/;

/** Of a module by its place before it was packed, or of a thread that is packed as well. */
const PLACE = /new URL\("([^"]+)", (?:import\.meta\.url|new URL\("([^"]+)", import\.meta\.url\))/g;

describe.runIf(isBuilt)('what is packed', () => {
  /** The places that it names. */
  function places(): URL[] {
    return readdirSync(FOLDER).flatMap((name) => {
      const here = pathToFileURL(join(FOLDER, name));
      const named = readFileSync(here, 'utf8').matchAll(PLACE);
      return [...named].map(([, path, module]) => new URL(path!, new URL(module ?? '.', here)));
    });
  }

  test('finds the files that its modules found where they were', () => {
    const all = places();
    const missing = all.filter((place) => !existsSync(place));
    const names = missing.map(({ pathname }) => pathname);
    expect(names.filter((name) => !MAY_BE_MISSING.test(name))).toEqual([]);
    expect(all.length - missing.length).toBeGreaterThan(40);
  });

  test('starts threads that are packed as well', () => {
    const threads = readdirSync(FOLDER).flatMap((name) => {
      const text = readFileSync(join(FOLDER, name), 'utf8');
      return [...text.matchAll(/new Worker\(new URL\("([^"]+)"/g)].map(([, path]) => path!);
    });
    expect(threads.length).toBeGreaterThan(8);
    expect(threads.filter((path) => !existsSync(join(FOLDER, path)))).toEqual([]);
    expect(threads.filter((path) => !/^\.\/[\w-]+\.mjs$/.test(path))).toEqual([]);
  });
});
