import { createHash } from 'node:crypto';
import {
  AttestError,
  BUILT_IN_POLICIES,
  ChainCache,
  type Policy,
  readPolicy,
  readServerReport,
  type TrustAnchors,
  type VerifyContext,
  verifyEvidence,
} from '@bridgekeeper/attest';
import type { PolicySpec } from './api/fleet.ts';
import { ControlError } from './errors.ts';
import type { Verdict } from './fleet/admit.ts';

/**
 * The policy under which nobody vouches for a replica: its report must answer the challenge and
 * name its keys, and that is the operator's word. For machines without a TEE, to try things out;
 * control takes it only where it was started to.
 */
const OPERATOR_ASSERTED = 'operator-asserted';

/** Vendors' services, for a verification at that moment. */
export type Services = (
  nowMs: number,
) => Pick<VerifyContext, 'references' | 'revocation' | 'tokenKeys' | 'collateral'>;

export interface AdmissionOptions {
  readonly anchors: TrustAnchors;
  readonly services: Services;
  readonly allowsOperatorAsserted: boolean;
}

/** What evidence is judged by, besides itself. */
export interface Question {
  readonly policy: PolicySpec['policy'];
  /** 64 hex digits that the evidence must answer. */
  readonly nonce: string;
  /** Of the GPUs that were claimed for it; null where one is not known. */
  readonly identities: readonly (string | null)[];
  readonly nowMs: number;
}

/** Checks evidence with `attest`; keeps chains that it has checked. */
export class Admission {
  readonly #options: AdmissionOptions;
  readonly #chains = new ChainCache();

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** Throws ControlError 'bad-request': there is no such policy, or it cannot be read. */
  checkPolicy(policy: PolicySpec['policy']): void {
    if (policy === OPERATOR_ASSERTED) {
      if (this.#options.allowsOperatorAsserted) return;
      const message = `policy ${OPERATOR_ASSERTED}: nobody vouches for such replicas`;
      throw new ControlError(
        'bad-request',
        `${message}; start control with --allow-operator-asserted to try things out`,
      );
    }
    policyOf(policy);
  }

  /** Never throws for evidence that is wrong: that is in the verdict. */
  async judge(text: string, question: Question): Promise<Verdict> {
    try {
      return await this.#judge(text, question);
    } catch (error) {
      if (!(error instanceof AttestError) && !(error instanceof ControlError)) throw error;
      return { ...NO_KEYS, refusals: [error.message] };
    }
  }

  async #judge(text: string, question: Question): Promise<Verdict> {
    const report = readServerReport(text);
    const { statement, encryptionKeys } = report;
    if (statement === null) return { ...NO_KEYS, refusals: ['it is no report of a replica'] };
    const refusals: string[] = [];
    if (statement.nonce !== question.nonce) refusals.push('it answers another challenge');
    const keysSha256 = encryptionKeys && createHash('sha256').update(encryptionKeys).digest('hex');
    if (keysSha256 !== (statement.encryptionKeysSha256 ?? null)) {
      refusals.push('the keys shown for encryption are not those that it names');
    }
    if (question.policy === OPERATOR_ASSERTED) this.checkPolicy(question.policy);
    else refusals.push(...(await this.#verify(text, statement.tlsSpkiSha256, question)));
    return {
      refusals,
      encryptionKeys: encryptionKeys && Buffer.from(encryptionKeys).toString('base64url'),
      receiptKey: statement.receiptKey,
      tlsSpkiSha256: statement.tlsSpkiSha256,
    };
  }

  async #verify(
    text: string,
    connectionSpkiSha256: string | null,
    { policy, nonce, identities, nowMs }: Question,
  ): Promise<string[]> {
    const { claims, verdict } = await verifyEvidence({
      input: 'a replica',
      files: [{ name: 'the report', bytes: new TextEncoder().encode(text), isNamed: true }],
      policy: policyOf(policy),
      context: {
        nowMs,
        nonce: Uint8Array.from(Buffer.from(nonce, 'hex')),
        anchors: this.#options.anchors,
        chains: this.#chains,
        // Gateways connect to the key that it names, and to no other.
        connectionSpkiSha256,
        ...this.#options.services(nowMs),
      },
    });
    const refusals = verdict.reasons.map(
      ({ subject, kind, text }) => `${subject} ${kind}: ${text}`,
    );
    if (verdict.result !== 'verified' && refusals.length === 0) refusals.push(verdict.result);
    const shown = claims
      .filter(({ kind, status }) => kind === 'gpu.identity' && status === 'verified')
      .map(({ value }) => String(value));
    return [...refusals, ...identityRefusals(identities, shown)];
  }
}

const NO_KEYS = { encryptionKeys: null, receiptKey: null, tlsSpkiSha256: null } as const;

/** The GPUs that answer are those that were claimed: each once, and no other. */
function identityRefusals(claimed: readonly (string | null)[], shown: readonly string[]): string[] {
  const refusals: string[] = [];
  if (new Set(shown).size !== shown.length) refusals.push('it shows one GPU twice');
  if (shown.length !== claimed.length) {
    refusals.push(`it shows ${shown.length} GPUs, ${claimed.length} were claimed for it`);
  }
  const unknown = claimed.filter((identity) => identity === null).length;
  if (unknown > 0) refusals.push(`its host does not say which GPUs ${unknown} of its modules are`);
  const strangers = shown.filter((identity) => !claimed.includes(identity));
  if (strangers.length > 0) refusals.push(`GPU ${strangers[0]} was not claimed for it`);
  return refusals;
}

function policyOf(policy: PolicySpec['policy']): Policy {
  if (typeof policy === 'string') {
    const known = BUILT_IN_POLICIES.get(policy);
    if (known !== undefined) return known;
    const names = [...BUILT_IN_POLICIES.keys()].join(', ');
    throw new ControlError('bad-request', `there is no policy ${policy}; there are ${names}`);
  }
  try {
    return readPolicy(JSON.stringify(policy), 'the policy');
  } catch (cause) {
    if (!(cause instanceof AttestError)) throw cause;
    throw new ControlError('bad-request', cause.message, { cause });
  }
}
