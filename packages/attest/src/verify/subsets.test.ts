import { expect, test } from 'vitest';
import type { Bytes } from '../core/bytes.ts';
import { ChainCache } from '../core/chain.ts';
import { BUILT_IN_POLICIES } from '../policy/built-in.ts';
import { decide } from '../policy/decide.ts';
import { pinPolicy } from '../policy/pin.ts';
import { makeService } from '../testing/service.ts';
import { appraise } from './appraise.ts';
import { readEvidence } from './evidence.ts';

const good = makeService();
const chains = new ChainCache();
/** About the server's answers: they prove nothing of a machine, and no policy asks for them. */
const isOfAnswers = (name: string) => /^(receipt|links)/.test(name);

async function claimsOf(files: readonly (readonly [string, Bytes])[]) {
  const { nonce, nowMs, anchors } = await good;
  const given = files.map(([name, bytes]) => ({ name, bytes, isNamed: true }));
  return appraise(await readEvidence(given), {
    nowMs,
    anchors,
    chains,
    nonce,
    references: null,
    revocation: { status: async () => 'good' },
    tokenKeys: null,
    collateral: null,
    connectionSpkiSha256: 'cd'.repeat(32),
    snpMinimumTcb: null,
  });
}

const policies = good.then(async ({ files }) => {
  const claims = await claimsOf([...files]);
  const [evidence, service] = ['evidence', 'service'].map((name) => BUILT_IN_POLICIES.get(name)!);
  const pinned = [evidence!, service!].map((policy) => pinPolicy(policy, claims)!);
  return [...BUILT_IN_POLICIES.values(), ...pinned];
});

/** By policy, the subsets of `files` that verify. */
async function verifying(files: readonly (readonly [string, Bytes])[]) {
  const found = new Map((await policies).map(({ name }) => [name, [] as Set<string>[]]));
  for (let subset = 1; subset < 2 ** files.length; subset++) {
    const shown = files.filter((_, i) => (subset >> i) % 2 === 1);
    const claims = await claimsOf(shown);
    for (const policy of await policies) {
      if (decide(claims, policy).verdict.result === 'refused') continue;
      found.get(policy.name)!.push(new Set(shown.map(([name]) => name)));
    }
  }
  return found;
}

test('of a good service’s files those verify that hold what the policy needs', async () => {
  const files = [...(await good).files].filter(([name]) => !isOfAnswers(name));
  const names = files.map(([name]) => name);
  const references = names.filter((name) => name.endsWith('.xml'));
  const quote = ['report.json', 'collateral.json'];
  const needed: Readonly<Record<string, readonly string[] | null>> = {
    evidence: quote,
    // Its software is not told, whatever is shown.
    service: null,
    // The nonce that was asked with is the report's.
    reference: ['report.json', ...references],
    token: null,
    'evidence, pinned': quote,
    'service, pinned': [...quote, ...references],
  };
  for (const [policy, found] of await verifying(files)) {
    const least = needed[policy]!;
    const free = least === null ? 0 : 2 ** (names.length - least.length);
    expect(found, policy).toHaveLength(free);
    for (const shown of found)
      expect([...shown], policy).toEqual(expect.arrayContaining([...least!]));
  }
});

test('a file that is given twice takes the place of no other', async () => {
  const files = [...(await good).files];
  for (const [name, bytes] of files) {
    const others = files.filter(([other]) => other !== name);
    const twice = [...others, [name, bytes], [`copy-of-${name}`, bytes]] as const;
    const claims = await claimsOf(twice).catch(({ code }) => code as string);
    // Of most kinds a machine has one.
    if (!/\.xml$|^receipt-/.test(name)) expect(claims, name).toBe('malformed');
    if (typeof claims === 'string') continue;
    const verdicts = (await policies).map((policy) => decide(claims, policy).verdict);
    const yes = verdicts.filter(({ result }) => result === 'verified').map(({ policy }) => policy);
    const asBefore = ['evidence', 'reference', 'evidence, pinned', 'service, pinned'];
    expect(yes, name).toEqual(name.endsWith('.xml') ? asBefore : []);
  }
});
