import { BUILT_IN_POLICIES, ChainCache, verifyEvidence } from '@bridgekeeper/attest';
import { makeService, type TestService } from '@bridgekeeper/attest/testing';
import { beforeAll, describe, expect, it } from 'vitest';
import { Admission, type Question } from './admission.ts';

const NO_SERVICES = { references: null, revocation: null, tokenKeys: null, collateral: null };

/** GPUs and no more: Intel's collateral, which the CPU's part needs, is not at hand here. */
const POLICY = {
  version: 2,
  name: 'gpus',
  purpose: 'eight GPUs that are genuine',
  minimum: [{ gpu: 8 }],
  require: { gpu: { 'gpu.chain': {}, 'gpu.signature': {}, 'gpu.identity': {}, 'gpu.nonce': {} } },
};

let service: TestService;
let report: string;
let identities: string[];
let question: Question;
let admission: Admission;

beforeAll(async () => {
  service = await makeService();
  const bytes = service.files.get('report.json')!;
  report = new TextDecoder().decode(bytes);
  const { claims } = await verifyEvidence({
    input: 'a service',
    files: [{ name: 'report.json', bytes, isNamed: true }],
    policy: BUILT_IN_POLICIES.get('evidence')!,
    context: {
      nowMs: service.nowMs,
      nonce: service.nonce,
      anchors: service.anchors,
      chains: new ChainCache(),
      ...NO_SERVICES,
    },
  });
  identities = claims
    .filter(({ kind }) => kind === 'gpu.identity')
    .map(({ value }) => String(value));
  const nonce = Buffer.from(service.nonce).toString('hex');
  question = { policy: POLICY, nonce, identities, nowMs: service.nowMs };
  admission = new Admission({
    anchors: service.anchors,
    services: () => NO_SERVICES,
    allowsOperatorAsserted: false,
  });
});

const refusals = async (changes: Partial<Question>, text = report) =>
  (await admission.judge(text, { ...question, ...changes })).refusals;

describe('evidence of a replica', () => {
  it('holds where the GPUs that signed are those that were claimed', async () => {
    expect(new Set(identities).size).toBe(8);
    expect(await refusals({})).toEqual([]);
    expect(await refusals({ identities: identities.toReversed() })).toEqual([]);
  });

  it('is refused for other GPUs, fewer, more, and for some that nobody knows', async () => {
    const [, ...rest] = identities;
    const stranger = 'f'.repeat(16);
    expect((await refusals({ identities: [stranger, ...rest] })).join()).toContain(
      'was not claimed',
    );
    expect((await refusals({ identities: rest })).join()).toContain('8 GPUs, 7 were claimed');
    const more = [...identities, stranger];
    expect((await refusals({ identities: more })).join()).toContain('8 GPUs, 9 were claimed');
    const unknown = [null, ...rest];
    expect((await refusals({ identities: unknown })).join()).toContain('does not say which GPUs');
  });

  it('is refused for another challenge, and under a policy that asks for more', async () => {
    expect(await refusals({ nonce: '0'.repeat(64) })).toContain('it answers another challenge');
    expect(await refusals({ policy: 'service' })).not.toEqual([]);
  });

  it('is refused where it cannot be read, and nothing of it is believed', async () => {
    for (const text of ['', '{}', '[]', report.slice(1), report.replace('"nonce"', '"nonse"')]) {
      const verdict = await admission.judge(text, question);
      expect(verdict.refusals).not.toEqual([]);
      expect(verdict.encryptionKeys).toBeNull();
    }
  });

  it('is not taken on the operator’s word unless control was started so', async () => {
    expect(await refusals({ policy: 'operator-asserted' })).not.toEqual([]);
    expect(() => admission.checkPolicy('operator-asserted')).toThrow('--allow-operator-asserted');
  });
});
