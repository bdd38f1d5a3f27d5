import { demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { CLAIM_KINDS } from './kinds.ts';
import { POLICY_VERSION, type Policy, policySchema } from './policy.ts';

const POLICY_CHARACTERS_MAX = 1_000_000;

/**
 * Reads a policy file. Strict: unknown keys and names of claims that no version of this package
 * makes are errors, since a requirement nobody can meet, or a misspelt one, protects nobody.
 * Throws AttestError 'malformed', 'too-large' or 'unsupported-version'.
 */
export function readPolicy(text: string, what: string): Policy {
  const json = parseJson(text, POLICY_CHARACTERS_MAX, what);
  const { version } = (json ?? {}) as { version?: unknown };
  const advice = 'start from --print-policy, and pin again what was pinned';
  const isNumber = typeof version === 'number';
  demand(
    !isNumber || version === POLICY_VERSION,
    'unsupported-version',
    `${what} is of version ${version}, this program reads version ${POLICY_VERSION}: ${advice}`,
  );
  const data = readShape(policySchema, json, what);
  for (const kind of namedKinds(data)) {
    const hint = `claims are named ${nearest(kind).join(', ')} and so on`;
    demand(CLAIM_KINDS.has(kind), 'malformed', `${what}: there is no claim "${kind}": ${hint}`);
  }
  return data;
}

function namedKinds({ require, tolerate }: Policy): string[] {
  const required = Object.values(require).flatMap((kinds) => Object.keys(kinds));
  return [...required, ...tolerate.map(({ kind }) => kind)];
}

/** Known kinds of the same family, or some of any. */
function nearest(kind: string): string[] {
  const family = `${kind.split('.')[0]}.`;
  const same = [...CLAIM_KINDS].filter((one) => one.startsWith(family));
  return (same.length > 0 ? same : [...CLAIM_KINDS]).slice(0, 8);
}
