import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { LoadingStrategy } from '@bridgekeeper/engine/loader';
import { z } from 'zod';
import { measuredProfilePath } from './measured-profiles.ts';

const count = z.int().min(0).max(1024);
const planSchema = z.strictObject({
  crossedBy: z.enum(['lanes', 'readers']),
  contexts: count,
  chunkBytes: z
    .int()
    .min(4096)
    .max(2 ** 30),
  memory: z.enum(['pinned', 'pageable']),
  readers: count,
  direct: z.boolean(),
});
const fileSchema = z.strictObject({
  schema: z.literal('bridgekeeper.loading/1'),
  /** By bridge and kind of storage: what wins differs between them. */
  plans: z.record(z.string().max(200), planSchema),
});

/** Where the plans lie that won on the machine with that GPU: beside its measured profile. */
export function loadingPath(gpuUuid: string): string {
  const profile = measuredProfilePath(gpuUuid);
  return join(dirname(profile), `${encodeURIComponent(gpuUuid)}.loading.json`);
}

function readPlans(path: string): Readonly<Record<string, LoadingStrategy>> {
  try {
    const parsed = fileSchema.safeParse(JSON.parse(readFileSync(path, 'utf8')));
    return parsed.success ? parsed.data.plans : {};
  } catch {
    // None yet, or not readable: the race decides anew.
    return {};
  }
}

/** The plan that won here before, or undefined. */
export function readLoadingStrategy(path: string, key: string): LoadingStrategy | undefined {
  return readPlans(path)[key];
}

/** Keeps the winner of a race. Throws the file system's error. */
export function keepLoadingStrategy(path: string, key: string, plan: LoadingStrategy): void {
  const plans = { ...readPlans(path), [key]: plan };
  mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.${process.pid}`;
  const text = JSON.stringify({ schema: 'bridgekeeper.loading/1', plans }, null, 2);
  writeFileSync(draft, `${text}\n`, { mode: 0o600 });
  renameSync(draft, path);
}
