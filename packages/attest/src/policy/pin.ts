import type { Claim } from '../claims/claim.ts';
import type { Policy } from './policy.ts';

/**
 * The policy with the software that was measured here as the one that it expects: what the guest
 * was started with and all its registers. Whoever uses it trusts that software, on first use or
 * because the values agree with those of its maker. null: nothing of it is verified.
 */
export function pinSoftware(policy: Policy, claims: readonly Claim[]): Policy | null {
  const valueOfKind = (kind: string) =>
    claims.find((claim) => claim.kind === kind && claim.status === 'verified')?.value;
  const launch = valueOfKind('cpu.launch');
  const measurements = valueOfKind('cpu.measurements');
  if (typeof launch !== 'string' || !Array.isArray(measurements)) return null;
  const cpu = {
    ...policy.require.cpu,
    'cpu.launch': { oneOf: [launch] },
    'cpu.measurements': { includes: [...measurements] as string[] },
  };
  return { ...policy, name: `${policy.name}, pinned`, require: { ...policy.require, cpu } };
}
