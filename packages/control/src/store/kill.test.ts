import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { SqlStore } from './sql-store.ts';
import { openSqlite } from './sqlite.ts';

const WRITER = fileURLToPath(new URL('../testing/killed-writer.js', import.meta.url));
/** Statements of one batch: BEGIN, fence, rows, claims, events, audit, COMMIT, and one after it. */
const STATEMENTS = 8;

it('has a batch whole or not at all, at whichever statement its writer is killed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bk-killed-'));
  const outcomes = new Set<number>();
  try {
    await Promise.all(
      Array.from({ length: STATEMENTS }, async (_, statement) => {
        const path = join(folder, `${statement}.db`);
        const child = spawn(process.execPath, [WRITER, path, String(statement)]);
        const [, signal] = await once(child, 'exit');
        expect(signal).toBe('SIGKILL');
        const store = await SqlStore.open(openSqlite(path));
        const { rows, claims, sequence } = await store.load();
        const audit = await store.audit(0, 10);
        const counts = [rows.length, claims.length, sequence, audit.length];
        // All of the batch, or none of it.
        expect(new Set(counts).size).toBe(1);
        outcomes.add(counts[0]!);
        // The next one can write at once.
        const lease = await store.acquire('next', 10_000, 1000);
        expect(lease).not.toBeNull();
        await store.close();
      }),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
  expect(outcomes).toEqual(new Set([0, 1]));
});
