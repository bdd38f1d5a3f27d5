import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileLibrary, hasCompiler } from './testing.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'native-library-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** A library that leaves a file where it is unloaded. */
function libraryThatTells(goodbye: string): string {
  return compileLibrary(
    folder,
    'tells',
    `#include <stdio.h>
     int cuInit() { return 0; }
     __attribute__((destructor)) static void leave(void) { fclose(fopen("${goodbye}", "w")); }`,
  );
}

describe.skipIf(!hasCompiler)('a library', () => {
  it('stays when the thread that opened it ends', async () => {
    const goodbye = join(folder, 'unloaded');
    const path = libraryThatTells(goodbye);
    const code = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.url).then(({ openNativeLibrary }) => {
        const { cuInit } = openNativeLibrary(workerData.path).bind({ cuInit: [] });
        parentPort.postMessage(cuInit());
      });`;
    const workerData = { path, url: new URL('./library.js', import.meta.url).href };
    const worker = new Worker(code, { eval: true, workerData });
    const answered = new Promise((resolve) => worker.once('message', resolve));
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    expect(await answered).toBe(0);
    await ended;
    expect(existsSync(goodbye)).toBe(false);
  });
});
