import { describe, expect, test } from 'vitest';
import { generateTraffic, TRAFFIC_KINDS } from './generate.ts';
import { type PagedRequest, type ReplayPolicyName, replay } from './replay.ts';
import { readPagedTrace } from './trace.ts';

const OPTIONS = { chunkTokens: 512, pageTokens: 512, jitters: false, seed: 1 };

function made(kind: (typeof TRAFFIC_KINDS)[number], sessions: number): PagedRequest[] {
  const traffic = { kind, sessions, sessionsPerSecond: 1, chunkTokens: 512, maxTokens: 65536 };
  return readPagedTrace(generateTraffic({ ...traffic, seed: 7 }), OPTIONS);
}

/** Seconds for a page: cheap moves, and moves that cost more than they can save. */
const CHEAP = { recomputeSeconds: () => 0.04, spillSeconds: 0.001, restoreSeconds: 0.001 };
const DEAR = { recomputeSeconds: () => 0.04, spillSeconds: 0.05, restoreSeconds: 0.05 };

const SIZES = { devicePages: 200, hostPages: 800 };

function netOf(requests: readonly PagedRequest[], prices: typeof CHEAP, name: ReplayPolicyName) {
  const alone = replay(requests, { ...SIZES, hostPages: 0 }, prices, 'lru').savedSeconds;
  const score = replay(requests, SIZES, prices, name);
  return { ...score, net: score.savedSeconds - alone - score.laneSeconds };
}

describe('priced', () => {
  test('writes next to nothing that is used once, where write-through writes all', () => {
    const requests = made('single-use', 200);
    const all = replay(requests, SIZES, CHEAP, 'write-through').spilledPages;
    expect(all).toBeGreaterThan(2000);
    expect(replay(requests, SIZES, CHEAP, 'priced').spilledPages).toBeLessThan(all / 10);
  });

  test('turns off a tier that costs more than it saves', () => {
    const requests = made('multi-turn', 200);
    expect(netOf(requests, DEAR, 'lru').net).toBeLessThan(-50);
    const { net, savedSeconds, spilledPages } = netOf(requests, DEAR, 'priced');
    expect(spilledPages).toBe(0);
    // It orders the device's own pages, too, and may be wrong about them at first.
    expect(net).toBeGreaterThan(-0.01 * savedSeconds);
  });

  test('is as good as the best of the others where bytes are cheap', () => {
    const requests = made('multi-turn', 300);
    const best = Math.max(
      ...(['lru', 'second-touch', 's3-fifo'] as const).map((name) => {
        return netOf(requests, CHEAP, name).net;
      }),
    );
    expect(best).toBeGreaterThan(0);
    expect(netOf(requests, CHEAP, 'priced').net).toBeGreaterThan(0.98 * best);
    expect(netOf(requests, CHEAP, 'clairvoyant').net).toBeGreaterThan(best);
  });
});

describe('a trace', () => {
  test('of conversations has their blocks as pages, and nothing in common between them', () => {
    const line = (id: string) =>
      JSON.stringify({
        id,
        block_size: 256,
        requests: [
          { t: 0, in: 1024, out: 5, hash_ids: [1, 2, 3, 4] },
          { t: 9.5, in: 1300, out: 0, hash_ids: [1, 2, 3, 4, 5, 6] },
        ],
      });
    const requests = readPagedTrace(`${line('a')}\n${line('b')}\n`, OPTIONS);
    expect(requests.map(({ ids }) => ids.length).sort()).toEqual([2, 2, 3, 3]);
    expect(new Set(requests.flatMap(({ ids }) => ids)).size).toBe(6);
    expect(() => readPagedTrace('{"id": "a", "requests": 3}\n', OPTIONS)).toThrow('line 1');
  });

  test('of requests keeps tenants apart, and numbers prefixes and not blocks', () => {
    const record = (tenant: string, hashIds: number[]) =>
      JSON.stringify({
        timestamp: 0,
        input_length: hashIds.length * 512,
        output_length: 1,
        hash_ids: hashIds,
        tenant,
      });
    const lines = [record('a', [1, 2]), record('b', [1, 2]), record('a', [2, 1]), record('a', [1])];
    const ids = readPagedTrace(lines.join('\n'), OPTIONS).map((request) => request.ids);
    expect(ids).toEqual([[0, 1], [2, 3], [4, 5], [0]]);
  });

  test.each(TRAFFIC_KINDS)('that is made up of %s is the same for the same seed', (kind) => {
    expect(made(kind, 20)).toEqual(made(kind, 20));
    const pages = made(kind, 50).flatMap(({ ids }) => ids);
    const reused = 1 - new Set(pages).size / pages.length;
    if (kind === 'single-use') expect(reused).toBe(0);
    else expect(reused).toBeGreaterThan(0.3);
  });
});
