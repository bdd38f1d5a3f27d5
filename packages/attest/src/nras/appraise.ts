import { type Check, checked, unchecked } from '../claims/check.ts';
import type { Claim, ClaimValue } from '../claims/claim.ts';
import type { AppraisalContext } from '../claims/context.ts';
import { toHex, utf8 } from '../core/bytes.ts';
import { sha256Hex } from '../core/digest.ts';
import { AttestError, demand } from '../core/errors.ts';
import type { DetachedEat, OpenJwt } from './detached-eat.ts';
import type { TokenKeys } from './keys.ts';

export const NRAS_ISSUER = 'https://nras.attestation.nvidia.com';

/** The one algorithm of these tokens. `none` is what NVIDIA's local verifier writes. */
const ALGORITHM = 'ES384';
const CLOCK_SKEW_MS = 60_000;

/** The claims about a token, each with why it matters when it does not hold. */
const WHY = {
  'token.signature': 'Anyone may have written the token',
  'token.issuer': 'Another service may check less, or nothing',
  'token.parts': 'Results of other devices could stand in for these',
  'token.nonce': 'The token may be an old one, of a better day',
  'token.expiry': 'What was so then need not be so now',
  'token.devices': 'A device without a result may be anything',
  'token.debug': 'A device in debug mode can be read by whoever holds the machine',
  'token.result': 'A device may not be as its vendor made it',
} as const;

export type TokenClaimKind = keyof typeof WHY;
export const TOKEN_CLAIM_KINDS = Object.keys(WHY) as readonly TokenClaimKind[];

/** What a token is to be verified against. */
export interface TokenExpectation {
  /** null: the service's keys are not at hand. */
  readonly keys: TokenKeys | null;
  /**
   * `service`: keys that are known to be the service's. `evidence`: they came with the token, so
   * that whoever made it can have made them; what they sign is never verified.
   */
  readonly keysFrom: 'service' | 'evidence';
  readonly issuer: string;
  /** How many devices the token must be about; null: any number. */
  readonly deviceCount: number | null;
}

interface Test {
  readonly check: Check;
  readonly test: () => unknown;
  /** Why it cannot be checked, or null. */
  readonly gap: string | null;
}

/**
 * What a remote attestation service vouches for. Only with its signatures can any of it be
 * verified; what is wrong in itself is refused with or without them.
 */
export async function appraiseToken(
  token: DetachedEat,
  expected: TokenExpectation,
  context: AppraisalContext,
): Promise<Claim[]> {
  const { keys, keysFrom } = expected;
  const all = [token.overall, ...token.devices.values()];
  const signing = checkOf(
    'token.signature',
    `All ${all.length} parts are signed with ${ALGORITHM}`,
  );
  const signature = await checked(signing, () => verifySignatures(all, keys));
  const doubt =
    keys === null
      ? 'The keys of the service are not at hand'
      : keysFrom === 'evidence'
        ? 'The keys came with the token, and whoever made it can have made them'
        : null;
  const isSigned = signature.status === 'verified' && doubt === null;
  const first =
    signature.status === 'verified' && doubt !== null ? unchecked(signing, doubt) : signature;
  const claims = [first];
  for (const { check, test, gap } of testsOf(token, expected, context)) {
    const claim = await checked(check, test);
    const isOpen = claim.status === 'verified' && (gap !== null || !isSigned);
    if (!isOpen) claims.push(claim);
    else if (!isSigned) claims.push(unchecked(check, gap ?? 'The signature was not verified'));
    else claims.push(unchecked(check, gap!, check.voucher));
  }
  return claims;
}

function checkOf(kind: TokenClaimKind, statement: string, value?: ClaimValue): Check {
  const check = { kind, subject: 'TOKEN', voucher: 'vendor-signed', statement } as const;
  return {
    ...check,
    evidence: ['token'],
    why: WHY[kind],
    ...(value === undefined ? {} : { value }),
  };
}

/** Without keys, only that the algorithm is the one that is accepted. */
async function verifySignatures(
  all: readonly OpenJwt<unknown>[],
  keys: TokenKeys | null,
): Promise<void> {
  for (const { text, algorithm, keyId } of all) {
    const isAccepted = algorithm === ALGORITHM;
    const problem = `a part of the token is signed with "${algorithm}", not ${ALGORITHM}`;
    demand(isAccepted, 'unsupported-algorithm', problem);
    if (keys === null) continue;
    const key = keys.get(keyId ?? '');
    demand(key !== undefined, 'signature-invalid', `the service has no key "${keyId}"`);
    // Loaded here, as most evidence has no tokens.
    const { compactVerify, errors, importJWK } = await import('jose');
    try {
      await compactVerify(text, await importJWK({ ...key }, ALGORITHM), {
        algorithms: [ALGORITHM],
      });
    } catch (cause) {
      const isRefusal = cause instanceof errors.JOSEError || cause instanceof DOMException;
      if (!isRefusal) throw cause;
      throw new AttestError('signature-invalid', `a signature by "${keyId}" does not hold`, {
        cause,
      });
    }
  }
}

function testsOf(
  token: DetachedEat,
  { issuer, deviceCount }: TokenExpectation,
  { nonce, nowMs }: AppraisalContext,
): Test[] {
  const { overall, devices } = token;
  const all = [overall, ...devices.values()].map(({ claims }) => claims);
  const devicesOnly = [...devices.values()].map(({ claims }) => claims);
  const untilMs = Math.min(...all.map(({ exp }) => exp)) * 1000;
  const fromMs = Math.max(...all.map(({ nbf }) => nbf ?? 0)) * 1000;
  const always = (check: Check, test: () => unknown): Test => ({ check, test, gap: null });
  return [
    always(checkOf('token.issuer', `It was issued by ${issuer}`, overall.claims.iss), () => {
      const other = all.find(({ iss }) => iss !== issuer);
      demand(other === undefined, 'identity-mismatch', `a part was issued by "${other?.iss}"`);
    }),
    always(checkOf('token.parts', 'The parts are those that the whole names'), () =>
      demandParts(token),
    ),
    {
      check: checkOf('token.nonce', 'Every part carries the nonce', overall.claims.eat_nonce),
      test: () => demandNonce(all, nonce === null ? overall.claims.eat_nonce : toHex(nonce)),
      gap: nonce === null ? 'No nonce was asked for' : null,
    },
    always(checkOf('token.expiry', 'It is valid at that time'), () => {
      const isValid = fromMs - CLOCK_SKEW_MS <= nowMs && nowMs < untilMs;
      demand(isValid, 'collateral-expired', 'the token is not valid at that time');
    }),
    {
      check: checkOf('token.devices', `It is about ${devices.size} devices`, devices.size),
      test: () => {
        const isWhole = deviceCount === null || devices.size === deviceCount;
        const problem = `the token is about ${devices.size} devices, not ${deviceCount}`;
        demand(isWhole, 'set-incomplete', problem);
      },
      gap: deviceCount === null ? 'No number of devices was asked for' : null,
    },
    always(checkOf('token.debug', 'No device can be debugged'), () => {
      const isClosed = devicesOnly.every(({ dbgstat }) => dbgstat === 'disabled');
      demand(isClosed, 'debug-enabled', 'a device can be debugged, or may be');
    }),
    always(checkOf('token.result', 'The service found all devices to be genuine'), () => {
      const isGenuine = devicesOnly.every((one) => one.measres === 'success' && one.secboot);
      const holds = overall.claims['x-nvidia-overall-att-result'] && isGenuine;
      demand(holds, 'token-refused', 'the service did not find all devices to be genuine');
    }),
  ];
}

async function demandParts({ overall, devices }: DetachedEat): Promise<void> {
  const named = overall.claims.submods;
  const missing = Object.keys(named).find((name) => !devices.has(name));
  demand(missing === undefined, 'set-incomplete', `the part ${missing} is missing`);
  for (const [name, { text }] of devices) {
    const digest = Object.hasOwn(named, name) ? named[name]![1][1].toLowerCase() : null;
    const isNamed = digest === (await sha256Hex(utf8(text)));
    demand(isNamed, 'binding-mismatch', `the part ${name} is not the one that the whole names`);
  }
}

function demandNonce(all: readonly { readonly eat_nonce: string }[], wanted: string): void {
  const isSame = all.every(({ eat_nonce }) => eat_nonce.toLowerCase() === wanted.toLowerCase());
  demand(isSame, 'nonce-mismatch', 'a part of the token carries another nonce');
}
