import { referenceProfile } from '@bridgekeeper/bridge';
import { describe, expect, test } from 'vitest';
import { deriveStrategy, LoadingRace, type LoadingStrategy } from './loading-strategy.ts';

const MIB = 1024 ** 2;
const on = (name: Parameters<typeof referenceProfile>[0], cores = 16, gpus = 1) => {
  const profile = referenceProfile(name);
  return deriveStrategy({ deviceKind: 'cuda', profile, isImposed: true, cores, gpus });
};

describe('what follows from a profile', () => {
  test('without a bridge nothing gets threads of its own', () => {
    for (const deviceKind of ['cpu', 'model'] as const) {
      const profile = referenceProfile('b300-cc');
      const strategy = deriveStrategy({
        deviceKind,
        profile,
        isImposed: false,
        cores: 16,
        gpus: 1,
      });
      const own = { crossedBy: 'lanes', contexts: 0, readers: 0, memory: 'pinned' };
      expect(strategy).toMatchObject(own);
    }
  });

  test('where copies do not block, the launching context is enough', () => {
    const own = { contexts: 0, memory: 'pinned', readers: 15 };
    expect(on('h100-native')).toMatchObject({ ...own, crossedBy: 'lanes' });
  });

  test('where nothing stands in the way, threads copy what they have read', () => {
    const facts = { deviceKind: 'cuda', isImposed: false, cores: 16, gpus: 1 } as const;
    const by = (profile: Parameters<typeof referenceProfile>[0] | null) =>
      deriveStrategy({ ...facts, profile: profile === null ? null : referenceProfile(profile) })
        .crossedBy;
    expect(by(null)).toBe('readers');
    expect(by('h100-native')).toBe('readers');
    for (const name of ['b300-cc', 'b200-cc', 'h100-cc'] as const) expect(by(name)).toBe('lanes');
  });

  test('several GPUs share the cores, and chunks are small enough for the staging of each', () => {
    expect(on('b300-cc', 32, 2)).toMatchObject({ readers: 15, chunkBytes: 16 * MIB });
    expect(on('b300-cc', 8, 8)).toMatchObject({ readers: 2, chunkBytes: 16 * MIB });
  });

  test('memory is what the bridge carries faster', () => {
    expect(on('b300-cc')).toMatchObject({ contexts: 0, memory: 'pageable' });
    expect(on('h100-cc')).toMatchObject({ contexts: 0, memory: 'pinned' });
  });

  test('other contexts cross where they carry more together, as few as do', () => {
    const profile = referenceProfile('h100-cc');
    const points = [
      { contexts: 1, factor: 1 },
      { contexts: 4, factor: 2.5 },
      { contexts: 8, factor: 2.55 },
    ];
    const contexts = { ...profile.contexts, aggregateRate: points };
    const facts = { deviceKind: 'cuda', isImposed: false, cores: 16, gpus: 1 } as const;
    const strategy = deriveStrategy({ ...facts, profile: { ...profile, contexts } });
    expect(strategy.contexts).toBe(4);
    const few = { ...profile, contexts: { ...contexts, max: 3 } };
    expect(deriveStrategy({ ...facts, profile: few }).contexts).toBe(2);
  });

  test('a toll is at most a hundredth of a crossing, or the crossing as large as may be', () => {
    for (const name of ['b300-cc', 'b200-cc', 'h100-cc', 'b300-cc-tinfoil'] as const) {
      const { chunkBytes, memory } = on(name);
      const { idleTollNs, bandwidth } = referenceProfile(name).crossings.h2d[memory];
      const seconds = chunkBytes / bandwidth.at(-1)!.bytesPerSecond;
      const isSmall = idleTollNs / 1e9 <= 0.01 * seconds;
      expect(isSmall || chunkBytes === 64 * MIB, name).toBe(true);
    }
  });

  test('a launching thread that stands still for crossings makes few of them', () => {
    expect(on('h100-cc')).toMatchObject({ contexts: 0, chunkBytes: 32 * MIB });
  });

  test('few cores still read', () => {
    expect(on('b300-cc', 1).readers).toBe(2);
  });
});

describe('the race', () => {
  const base: LoadingStrategy = {
    crossedBy: 'lanes',
    contexts: 2,
    chunkBytes: 16 * MIB,
    memory: 'pinned',
    readers: 8,
    direct: false,
  };

  /** Lets every strategy be tried whose rate `rateOf` tells. */
  function race(
    contextsMax: number,
    rateOf: (strategy: LoadingStrategy) => number,
    readySeconds = 0,
    { readersMayCross = false, from = base } = {},
  ) {
    const running = new LoadingRace(from, 60e9, { contextsMax, readersMayCross });
    const tried: LoadingStrategy[] = [];
    for (let strategy = running.next(); strategy !== null; strategy = running.next()) {
      tried.push(strategy);
      running.tried(strategy, strategy.contexts > 2 ? readySeconds : 0, rateOf(strategy));
    }
    return { best: running.best, tried };
  }

  test('begins with what was derived, and keeps it when nothing is better', () => {
    const { best, tried } = race(8, () => 1e9);
    expect(tried[0]).toEqual(base);
    expect(best).toEqual(base);
    expect(new Set(tried.map((strategy) => JSON.stringify(strategy))).size).toBe(tried.length);
  });

  test('finds what is better in several ways at once', () => {
    const { best } = race(8, ({ direct, memory, contexts, chunkBytes }) => {
      const gain = (direct ? 2 : 1) * (memory === 'pageable' ? 1.5 : 1) * contexts;
      return 1e9 * gain * (chunkBytes / MIB);
    });
    const wanted = { direct: true, memory: 'pageable', contexts: 4, chunkBytes: 32 * MIB };
    expect(best).toEqual({ ...base, ...wanted });
  });

  test('contexts must bring in what creating them costs, and stay within the limit', () => {
    const faster = ({ contexts }: LoadingStrategy) => 20e9 * (contexts > 2 ? 1.2 : 1);
    expect(race(8, faster).best.contexts).toBe(4);
    expect(race(8, faster, 5).best.contexts).toBe(2);
    expect(Math.max(...race(3, faster).tried.map(({ contexts }) => contexts))).toBe(2);
  });

  test('threads that read cross only where they may', () => {
    const gain = ({ crossedBy }: LoadingStrategy) => (crossedBy === 'readers' ? 50e9 : 30e9);
    expect(race(8, gain).best.crossedBy).toBe('lanes');
    const { best } = race(8, gain, 0, { readersMayCross: true });
    expect(best).toMatchObject({ crossedBy: 'readers', contexts: 0, memory: 'pinned' });
  });

  test('lanes win where threads that cross are in each other’s way', () => {
    const gain = ({ crossedBy, contexts }: LoadingStrategy) =>
      crossedBy === 'readers' ? 3e9 : 5e9 * Math.max(1, contexts);
    const from: LoadingStrategy = { ...base, crossedBy: 'readers', contexts: 0 };
    const { best, tried } = race(8, gain, 0, { readersMayCross: true, from });
    expect(best).toMatchObject({ crossedBy: 'lanes', contexts: 2 });
    for (const { crossedBy, memory, contexts } of tried) {
      expect(crossedBy === 'lanes' || (memory === 'pinned' && contexts === 0)).toBe(true);
    }
  });

  test('a few per cent are noise', () => {
    expect(race(8, ({ direct }) => (direct ? 1.02e9 : 1e9)).best.direct).toBe(false);
  });
});
