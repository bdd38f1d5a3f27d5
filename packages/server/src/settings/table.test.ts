import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { environmentOf, type Flag, flagOf } from './flags.ts';
import { MODEL_FLAG, SETTINGS } from './table.ts';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));

const FLAGS: readonly [string, Flag<unknown>][] = Object.entries(SETTINGS);

/** The rows of a table of settings: flag, value, default, variable, meaning. */
function documented(): string[][] {
  const page = readFileSync(join(ROOT, 'docs/reference/flags.md'), 'utf8');
  const [, serve = ''] = page.split(/^## /m);
  const rows = serve.split('\n').filter((line) => line.startsWith('| `--'));
  return rows.map((row) => {
    const cells = row.split(/(?<!\\)\|/).slice(1, -1);
    return cells.map((cell) =>
      cell
        .trim()
        .replace(/^`(.*)`$/, '$1')
        .replaceAll('\\|', '|'),
    );
  });
}

test('every setting is as its page says', () => {
  const settings = FLAGS.filter(([, { argument }]) => argument === undefined);
  const rows = settings.map(([name, { kind, default: fallback, help }]) => [
    `--${flagOf(name)}`,
    kind.isSwitch ? '' : `<${kind.metavar}>`,
    fallback === false ? '' : String(fallback ?? ''),
    environmentOf(name),
    help,
  ]);
  expect(rows).toEqual(documented());
  for (const [name, { isSetting }] of FLAGS) expect([name, isSetting]).toEqual([name, true]);
});

test('the model is the one argument, and without it the bundled one', () => {
  expect(SETTINGS.model.argument).toBe('optional');
  expect(SETTINGS.model.kind).toMatchObject({ metavar: 'folder', what: 'non-empty text' });
  expect(SETTINGS.model.default).toBe(join(ROOT, 'models/storyteller'));
  expect(existsSync(join(SETTINGS.model.default, 'config.json'))).toBe(true);
  // Help is the same on every machine.
  expect(SETTINGS.model.defaultName).toBe('the bundled Storyteller');
  expect(MODEL_FLAG).not.toHaveProperty('isSetting');
});

test('numbers have bounds, which are values themselves', () => {
  const bounds: Readonly<Record<string, readonly [least: number, most: number]>> = {
    port: [0, 65535],
    tenancyEpoch: [0, 281474976710656],
    fabricLogIndex: [0, 281474976710656],
    tensorParallelSize: [1, 8],
    dataParallelSize: [1, 8],
    maxModelLen: [1, 2147483648],
    maxNumSeqs: [1, 65536],
    maxNumBatchedTokens: [1, 16777216],
    gpuMemoryUtilization: [0.01, 1],
    kvCacheMemoryBytes: [1, 70368744177664],
    blockSize: [1, 1024],
    stateSnapshots: [0, 65536],
    kvOffloadingSize: [0.001, 1048576],
    kvDiskSize: [0.001, 16777216],
    kvSpillShare: [0, 1],
    engineRestarts: [0, 1000],
    engineRestartWindow: [1, 86400],
    watchdogTimeout: [0, 86400],
    grammarPoolBytes: [0, 68719476736],
    seed: [0, 9007199254740991],
    interTokenLimitMs: [1, 10000],
    maxWaitingRequests: [0, 1000000],
    maxRunningPerKey: [1, 65536],
    maxWaitingPerKey: [0, 1000000],
    tokensPerMinutePerKey: [1, 1000000000000],
    maxConnections: [1, 1000000],
    maxBodyBytes: [1024, 1073741824],
    responseStoreBytes: [0, 1099511627776],
    responseStoreSeconds: [1, 1000000000],
    requestTimeout: [1, 3600],
    stallTimeout: [1, 3600],
    shutdownTimeout: [0, 86400],
    receiptsMax: [1, 1000000000],
    receiptsDays: [1, 36500],
    logInterval: [0.1, 86400],
  };
  const numbers = FLAGS.filter(([, { kind }]) => /^(n|number)$/.test(kind.metavar));
  expect(Object.keys(bounds)).toEqual(numbers.map(([name]) => name));
  for (const [name, { kind }] of numbers) {
    const [least, most] = bounds[name]!;
    const outside = kind.metavar === 'n' ? [least - 1, most + 1] : [least - 0.001, most + 0.001];
    const parsed = [least, most, ...outside].map((value) => kind.parse(String(value)));
    expect([name, ...parsed]).toEqual([name, least, most, undefined, undefined]);
  }
});

test('only keys are secret', () => {
  const secrets = FLAGS.filter(([, { kind }]) => kind.secret).map(([name]) => name);
  expect(secrets).toEqual(['apiKey', 'operatorKey', 'gatewayKey']);
});
