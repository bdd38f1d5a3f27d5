import { referenceProfile } from '@bridgekeeper/bridge';
import { afterAll, describe, expect, it } from 'vitest';
import { LoadPlanner } from './predict.ts';
import { lawOf } from './predict-load.ts';

const LOAD = {
  model: 'gpt-oss-20b',
  gpu: 'h200',
  requestsPerSecond: 2,
  promptTokens: 128,
  outputTokens: 8,
  slo: { itlMs: 1000 },
};

describe('a load of one replica', () => {
  const planner = new LoadPlanner(600);
  const predict = (question: Parameters<typeof planner.predict>[0]) => planner.predict(question);
  afterAll(() => planner.close());

  it('costs what its host’s bridge takes, and nothing where there is none', async () => {
    const [on, off] = await Promise.all([
      predict({ load: LOAD, gpus: 1, bridge: { profile: 'b300-cc', tollNs: 1e5 } }),
      predict({ load: LOAD, gpus: 1, bridge: null }),
    ]);
    expect(on).toMatchObject({ law: 'b300-cc', overload: null, sloMissed: 0 });
    expect(off).toMatchObject({ law: 'off', bridgeSecondsPerToken: 0 });
    expect(on.bridgeSecondsPerToken).toBeGreaterThan(0);
    expect(on.coldStartSeconds).toBeGreaterThan(off.coldStartSeconds);
  });

  it('takes the GPU’s confidential profile for a bridge of another name', () => {
    const confidential = referenceProfile('h100-cc');
    const law = (profile: string) => lawOf({ profile, tollNs: 1e5 }, confidential)?.name;
    expect([law('our own'), law('b300-cc')]).toEqual(['h100-cc', 'b300-cc']);
    expect(lawOf(null, confidential)).toBeNull();
  });

  it.each([
    [{ model: 'no-such' }, 'bad-request', '--model no-such'],
    [{ gpu: 'no-such' }, 'bad-request', '--gpu no-such'],
    [{ promptTokens: 1_000_000 }, 'bad-request', 'tokens are more'],
    [{ model: 'DeepSeek-V3' }, 'does-not-fit', 'fit'],
  ])('is refused where it cannot be: %j', async (part, code, words) => {
    const refused = predict({ load: { ...LOAD, ...part }, gpus: 1, bridge: null });
    await expect(refused).rejects.toMatchObject({ code, message: expect.stringContaining(words) });
  });

  it('is given up where it takes too long', async () => {
    const late = new LoadPlanner(0).predict({ load: LOAD, gpus: 1, bridge: null });
    await expect(late).rejects.toMatchObject({ code: 'busy' });
  });

  it('waits for few others', async () => {
    const hasty = new LoadPlanner(0);
    const asked = Array.from({ length: 9 }, () =>
      hasty.predict({ load: LOAD, gpus: 1, bridge: null }),
    );
    const outcomes = await Promise.allSettled(asked);
    const messages = outcomes.map((outcome) => String((outcome as PromiseRejectedResult).reason));
    expect(messages.filter((each) => each.includes('loads are being planned'))).toHaveLength(1);
  });
});
