import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Profile, referenceProfile } from '@bridgekeeper/bridge';
import { burstSteps } from '@bridgekeeper/engine';
import { afterAll, describe, expect, it } from 'vitest';
import { settingsWith } from '../../settings/configuration.ts';
import type { Settings } from '../../settings/table.ts';
import { configureEngine } from './configure.ts';

const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-choose-'));
afterAll(() => rmSync(folder, { recursive: true }));

function configured(changes: Partial<Settings>) {
  return configureEngine(settingsWith(changes), { mode: 'off' });
}

/** A profile file like the reference one, but with this toll for small drains. */
function profileFile(tollNs: number): string {
  const base = referenceProfile('b300-cc');
  const { d2h } = base.crossings;
  const pinned = { ...d2h.pinned, idleTollNs: tollNs, queuedTollNs: 0 };
  const name = `toll-${tollNs}`;
  const crossings = { ...base.crossings, d2h: { ...d2h, pinned } };
  const profile: Profile = { ...base, name, crossings };
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify(profile));
  return path;
}

describe('auto', () => {
  it('leads from tolls of 330 us and of 20 ms to different K, and says why', () => {
    const cheap = configured({ device: 'model', law: profileFile(330_000) });
    const dear = configured({ device: 'model', law: profileFile(20_000_000) });
    expect([cheap.policy.value, dear.policy.value]).toEqual(['resident', 'resident']);
    expect(cheap.policy.reason).toMatch(/toll-330000 pays 330 us.* K = 1,/);
    expect(dear.policy.reason).toMatch(/toll-20000000 pays 20000 us.* K = 3,/);
  });

  it('does not pay for a bridge where there is none', () => {
    const free = configured({ device: 'cpu', law: 'off' });
    expect(free.policy).toEqual({
      value: 'drain-first',
      reason: expect.stringMatching(/no bridge/),
    });
    expect(free.bridge.value).toBeNull();
    expect(configured({ device: 'cpu', law: 'emulate:b300-cc' }).policy.value).toBe('resident');
  });

  it('needs contexts for its lanes', () => {
    const base = referenceProfile('b300-cc');
    const path = join(folder, 'two-contexts.json');
    const contexts = { ...base.contexts, max: 2 };
    writeFileSync(path, JSON.stringify({ ...base, name: 'two-contexts', contexts }));
    expect(configured({ device: 'cpu', law: path }).policy).toEqual({
      value: 'drain-first',
      reason: 'two-contexts allows 2 contexts, too few for lanes',
    });
  });

  it('is overridden by --policy', () => {
    const chosen = configured({ device: 'cpu', law: 'emulate:b300-cc', policy: 'overlap' });
    expect(chosen.policy).toEqual({ value: 'overlap', reason: '--policy overlap' });
  });

  it('refuses laws and element types that cannot be', () => {
    expect(() => configured({ device: 'cpu', law: 'emulate:x' })).toThrow(/b300-cc, .*h100-native/);
    expect(() => configured({ device: 'cpu', law: join(folder, 'none.json') })).toThrow(
      /cannot be read/,
    );
    const corrupt = join(folder, 'corrupt.json');
    writeFileSync(corrupt, '{"schema": "bridgekeeper.profile/9"}');
    expect(() => configured({ device: 'cpu', law: corrupt })).toThrow(/bridgekeeper.profile\/1/);
    expect(() => configured({ device: 'cpu', dtype: 'float16' })).toThrow(/float32/);
  });
});

describe('how weights and KV are stored', () => {
  it('follows the flags, in the names that vLLM has for them', () => {
    const kv = (kvCacheDtype: Settings['kvCacheDtype'], device: Settings['device'] = 'model') =>
      configured({ kvCacheDtype, device }).kvFormat;
    expect([kv('auto'), kv('bfloat16')]).toEqual(['element', 'element']);
    expect([kv('fp8'), kv('fp8_e4m3'), kv('fp8', 'cpu')]).toEqual(Array(3).fill('fp8-e4m3'));
    expect(() => kv('bfloat16', 'cpu')).toThrow(/the cpu device stores KV as float32, or as fp8/);
    expect(configured({ device: 'cpu' }).quantization).toBe(undefined);
    expect(configured({ device: 'cpu', quantization: 'fp8' }).quantization).toBe('fp8');
  });
});

describe('the length of a burst', () => {
  const limit = 50e6;
  it.each([
    [3_000, 10e6, 1],
    [330_000, 10e6, 1],
    [330_000, 0.3e6, 2],
    [1_000_000, 0.3e6, 5],
    [100e6, 10e6, 5],
    [0, 1e3, 1],
  ])('toll %d ns, step %d ns: %d', (tollNs, stepNs, steps) => {
    expect(burstSteps({ tollNs, interTokenLimitNs: limit }, stepNs)).toBe(steps);
  });
});

describe('speculation', () => {
  it('is as vLLM spells it, and off where nothing is said', () => {
    expect(configured({ device: 'cpu' }).limits.speculation).toBeUndefined();
    const speculativeConfig = '{"method": "ngram", "num_speculative_tokens": 2}';
    const speculation = { drafts: 2, lookupMin: 5, lookupMax: 5 };
    expect(configured({ device: 'cpu', speculativeConfig }).limits).toMatchObject({ speculation });
    const other = '{"method": "medusa", "num_speculative_tokens": 2}';
    expect(() => configured({ device: 'cpu', speculativeConfig: other })).toThrow(
      'must be "ngram"',
    );
  });
});

describe('tiers of KV', () => {
  it('are as large as was said, in GiB', () => {
    const asked = {
      device: 'model',
      kvOffloadingSize: 2,
      kvDiskPath: '/d',
      kvDiskSize: 0.5,
    } as const;
    expect(configured(asked).limits.tiers).toEqual({
      hostBytes: 2 ** 31,
      disk: { folder: '/d', bytes: 2 ** 29 },
      spillLaneShare: 0.5,
      policy: 'priced',
    });
    const fewer = { kvOffloadingSize: 1, kvSpillShare: 0.1, kvTierPolicy: 'lru' } as const;
    expect(configured({ device: 'model', ...fewer }).limits.tiers).toEqual({
      hostBytes: 2 ** 30,
      disk: null,
      spillLaneShare: 0.1,
      policy: 'lru',
    });
    expect(configured({ device: 'model' }).limits.tiers).toBeUndefined();
  });

  it('are refused where they would come to nothing', () => {
    expect(() => configured({ device: 'model', kvDiskPath: '/d' })).toThrow('--kv-offloading-size');
    const alone = { device: 'model', kvOffloadingSize: 1, enablePrefixCaching: false } as const;
    expect(() => configured(alone)).toThrow('--enable-prefix-caching');
  });
});
