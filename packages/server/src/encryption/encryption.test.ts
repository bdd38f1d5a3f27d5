import { readKeyConfigs } from '@bridgekeeper/envelope';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EncryptionKeys } from './keys.ts';
import { ReplayGuard } from './replay-guard.ts';

const HOUR_NS = 3600 * 1e9;

describe('keys', () => {
  async function make() {
    const time = { nowNs: 0 };
    const keys = await EncryptionKeys.make({ nowNs: () => time.nowNs });
    const current = async () => readKeyConfigs(await keys.current())[0]!;
    return { time, keys, current };
  }

  test('are given out for a day, and open envelopes for two hours more', async () => {
    const { time, keys, current } = await make();
    const first = await current();
    time.nowNs = 24 * HOUR_NS - 1;
    expect(await current()).toEqual(first);
    time.nowNs = 24 * HOUR_NS;
    const [second, again] = await Promise.all([current(), current()]);
    expect(second).toEqual(again);
    expect(second.id).not.toBe(first.id);
    expect(second.publicKey).not.toEqual(first.publicKey);
    expect(keys.find(first.id)?.config).toEqual(first);
    time.nowNs = 26 * HOUR_NS;
    expect(keys.find(first.id)).toBeUndefined();
    expect(keys.find(second.id)?.config).toEqual(second);
  });

  test('do not end while nobody asks for another', async () => {
    const { time, keys, current } = await make();
    const { id } = await current();
    time.nowNs = 1000 * HOUR_NS;
    expect(keys.find(id)).toBeDefined();
  });

  test('cannot be exported', async () => {
    const { keys, current } = await make();
    const { privateKey } = keys.find((await current()).id)!.keys;
    await expect(crypto.subtle.exportKey('pkcs8', privateKey)).rejects.toThrow();
    await expect(crypto.subtle.exportKey('jwk', privateKey)).rejects.toThrow();
  });
});

describe('the guard against replays', () => {
  const enc = (i: number) => Uint8Array.of(i, i >> 8);

  test('lets an envelope pass once, and none of another time', () => {
    const guard = new ReplayGuard();
    expect(guard.admit(enc(1), 1000, 1000)).toBe('fresh');
    expect(guard.admit(enc(1), 1000, 1000)).toBe('replayed');
    expect(guard.admit(enc(2), 699, 1000)).toBe('stale');
    expect(guard.admit(enc(2), 1301, 1000)).toBe('stale');
    expect(guard.admit(enc(2), Number.NaN, 1000)).toBe('stale');
    expect(guard.admit(enc(2), 700, 1000)).toBe('fresh');
    expect(guard.admit(enc(3), 1300, 1000)).toBe('fresh');
  });

  test('remembers no more than it may, and takes new ones again later', () => {
    const guard = new ReplayGuard(2);
    expect(guard.admit(enc(1), 0, 0)).toBe('fresh');
    expect(guard.admit(enc(2), 0, 0)).toBe('fresh');
    expect(guard.admit(enc(3), 0, 0)).toBe('full');
    expect(guard.admit(enc(3), 601, 601)).toBe('fresh');
  });

  test('lets nothing pass twice, however the clock goes', () => {
    const times = fc.array(fc.record({ id: fc.nat(5), now: fc.nat(3000) }));
    fc.assert(
      fc.property(times, (tries) => {
        const guard = new ReplayGuard();
        const passed = new Map<number, number>();
        for (const { id, now } of tries) {
          // The date is within the envelope: each has its own.
          const date = id * 500;
          if (guard.admit(enc(id), date, now) === 'fresh') {
            passed.set(id, (passed.get(id) ?? 0) + 1);
          }
        }
        expect([...passed.values()].filter((count) => count > 1)).toEqual([]);
      }),
    );
  });
});
