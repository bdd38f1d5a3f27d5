import { type Claim, type ClaimValue, claim } from '../claims/claim.ts';
import { type Bytes, equalBytes, toHex, utf8 } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { sha256Hex } from '../core/digest.ts';
import { verifyEd25519 } from '../core/ed25519.ts';
import { AttestError, type AttestErrorCode } from '../core/errors.ts';
import { describeObservation } from './observation.ts';
import { expectedReportData, gpusServing, type ServerReport } from './report.ts';
import type { ReportStatement } from './statement.ts';

/** The claims that a server's report can give. */
export const SERVER_CLAIMS = [
  'server.tee',
  'server.binding',
  'server.signature',
  'server.nonce',
  'server.issuedAt',
  'server.tls',
  'server.encryption',
  'server.receiptKey',
  'server.gpus',
  'server.gpuEvidence',
  'server.software',
  'server.model',
  'server.configuration',
  'server.observation',
] as const;
export type ServerClaim = (typeof SERVER_CLAIMS)[number];

export interface ReportContext {
  /** The moment that the report's age is judged at, in ms since 1970. */
  readonly nowMs: number;
  /** What the client asked with; null: it gave none. */
  readonly nonce: Bytes | null;
  /**
   * Of the TLS key (SubjectPublicKeyInfo) that the connection showed; null: it was plain HTTP.
   * Absent: the report is not from a connection.
   */
  readonly connectionSpkiSha256?: string | null;
  /** The report data of the CPU's evidence, and whether that was verified; null: there is none. */
  readonly quote: { readonly reportData: Bytes; readonly isVerified: boolean } | null;
  /** How many entries of its evidence are of GPUs, the others of switches; absent: all are. */
  readonly gpusShown?: number;
}

/**
 * Judges what a server says of itself. The quote itself is for the CPU's appraisal, which must be
 * done before. Never throws for a report that is wrong.
 */
export async function appraiseServerReport(
  report: ServerReport,
  context: ReportContext,
): Promise<Claim[]> {
  const binding = await bindingOf(report, context);
  const signature = await signatureOf(report);
  const { statement } = report;
  const isBySignature = statement !== null && report.binding !== 'statement';
  const isProven = binding.isProven && (!isBySignature || signature === 'holds');
  const make = claimsOf(isProven);
  const parts = { report, context, make };
  const claims = [teeClaim(parts, binding.isProven), binding.claim, nonceClaim(parts)];
  if (statement === null) return [...claims, ...(await gpuClaims(parts)), keyClaim(parts)];
  return [
    ...claims,
    ...signatureClaims(parts, signature),
    ageClaim(parts, statement),
    tlsClaim(parts, statement),
    ...(await encryptionClaims(parts, statement)),
    ...(statement.receiptKey === null ? [] : [keyClaim(parts)]),
    ...(await gpuClaims(parts)),
    ...(await saidClaims(parts, statement)),
  ];
}

interface Parts {
  readonly report: ServerReport;
  readonly context: ReportContext;
  readonly make: ReturnType<typeof claimsOf>;
}

interface Found {
  readonly value?: ClaimValue;
  readonly code?: AttestErrorCode | undefined;
  /** Why it cannot be more than unverified, whatever is proven. */
  readonly unverified?: string;
}

/** How far the server's clock may run before the verifier's. */
const CLOCK_SKEW_SECONDS = 300;

const UNPROVEN = 'no verified quote binds it: whoever answers may say what they like';

/** Makes claims that are verified where the statement is proven. */
function claimsOf(isProven: boolean) {
  return (kind: ServerClaim, statement: string, found: Found = {}): Claim => {
    const { value, code, unverified } = found;
    const why = unverified ?? (isProven ? undefined : UNPROVEN);
    const status = code !== undefined ? 'refused' : why === undefined ? 'verified' : 'unverified';
    const observed = unverified !== undefined ? 'guest-observed' : 'cpu-signed';
    return claim({
      kind,
      subject: 'SERVER',
      status,
      voucher: isProven ? observed : 'operator-asserted',
      statement,
      evidence: ['server report'],
      ...(value === undefined ? {} : { value }),
      ...(code === undefined ? {} : { code }),
      ...(status === 'unverified' && why !== undefined ? { why } : {}),
    });
  };
}

async function bindingOf(report: ServerReport, { quote }: ReportContext) {
  const make = claimsOf(quote?.isVerified === true);
  const kind = 'server.binding';
  if (quote === null) {
    return { isProven: false, claim: make(kind, 'no quote binds this report') };
  }
  let expected: Bytes;
  try {
    expected = await expectedReportData(report);
  } catch (error) {
    if (!(error instanceof AttestError)) throw error;
    return { isProven: false, claim: make(kind, error.message, { code: 'binding-mismatch' }) };
  }
  const holds = equalBytes(expected, quote.reportData);
  const statement = holds
    ? `the quote binds this report (${report.binding})`
    : `the quote was made for another report (${report.binding})`;
  const code = holds ? undefined : 'binding-mismatch';
  return {
    isProven: holds && quote.isVerified,
    claim: make(kind, statement, { code, value: report.binding }),
  };
}

type SignatureState = 'absent' | 'holds' | 'broken';

async function signatureOf({ statement, signature }: ServerReport): Promise<SignatureState> {
  const key = statement?.receiptKey ?? null;
  if (statement === null || (key === null && signature === null)) return 'absent';
  if (key === null || signature === null) return 'broken';
  const holds = await verifyEd25519(key, signature, canonicalBytes(statement));
  return holds ? 'holds' : 'broken';
}

function teeClaim({ report, context }: Parts, isBound: boolean): Claim {
  const said = report.statement?.tee ?? (report.tdxQuote === null ? 'none' : 'tdx');
  const has = report.tdxQuote !== null ? 'tdx' : report.snpReport !== null ? 'sev-snp' : 'none';
  const make = claimsOf(isBound && context.quote?.isVerified === true);
  const found = { value: has } as const;
  if (said !== has) {
    const statement = `the server says that its TEE is ${said}, its evidence is of ${has}`;
    return make('server.tee', statement, { ...found, code: 'binding-mismatch' });
  }
  if (has !== 'none') return make('server.tee', `the server runs under ${has}`, found);
  return make('server.tee', 'the server runs in no TEE', {
    ...found,
    unverified: 'its operator can read and change everything: prompts, answers, this report',
  });
}

function nonceClaim({ report, context, make }: Parts): Claim {
  const kind = 'server.nonce';
  const { nonce, statement } = report;
  const isWhole = nonce !== null && (statement === null || statement.nonce === toHex(nonce));
  const mismatch = { code: 'nonce-mismatch' } as const;
  if (!isWhole) return make(kind, 'the report and its statement have two nonces or none', mismatch);
  if (context.nonce === null) {
    const unverified = 'no nonce was asked with: the report may be an old one, played again';
    return make(kind, 'nothing says how old the report is', { unverified });
  }
  if (!equalBytes(nonce, context.nonce)) {
    return make(kind, 'the report was made for another nonce', mismatch);
  }
  return make(kind, 'the report was made for this nonce');
}

function signatureClaims({ make }: Parts, state: SignatureState): Claim[] {
  if (state === 'absent') return [];
  const holds = state === 'holds';
  const statement = `the report ${holds ? 'is' : 'is not'} signed by its own receipt key`;
  return [make('server.signature', statement, { code: holds ? undefined : 'signature-invalid' })];
}

/** Its value is the report's age in seconds, for a policy to bound. */
function ageClaim({ context, make }: Parts, { issuedAt }: ReportStatement): Claim {
  const kind = 'server.issuedAt';
  const value = Math.floor(context.nowMs / 1000) - issuedAt;
  const when = new Date(issuedAt * 1000).toISOString();
  if (value < -CLOCK_SKEW_SECONDS) {
    const text = `the report was made at ${when}, which has not come yet`;
    return make(kind, text, { value, code: 'not-current' });
  }
  const unverified = 'it is told by the server’s clock, which its host sets';
  return make(kind, `the report was made at ${when}`, { value, unverified });
}

function tlsClaim({ context, make }: Parts, { tlsSpkiSha256 }: ReportStatement): Claim {
  const kind = 'server.tls';
  const { connectionSpkiSha256: shown } = context;
  const value = tlsSpkiSha256;
  if (tlsSpkiSha256 === null) {
    const unverified = 'whoever is between may read and change what is sent';
    return make(kind, 'TLS does not end in the server', { value, unverified });
  }
  if (shown === undefined) {
    const unverified = 'the report comes from a file: compare it with the key of a connection';
    return make(kind, 'the server names its TLS key', { value, unverified });
  }
  if (shown !== tlsSpkiSha256) {
    const statement = 'the connection ends elsewhere: its TLS key is not the one the server names';
    return make(kind, statement, { value, code: 'binding-mismatch' });
  }
  return make(kind, 'the connection ends in the server, with the TLS key it names', { value });
}

/** A key that only this server has, for requests that pass through others. */
async function encryptionClaims({ report, make }: Parts, statement: ReportStatement) {
  const kind = 'server.encryption';
  const { encryptionKeys } = report;
  const said = statement.encryptionKeysSha256 ?? null;
  if (encryptionKeys === null && said === null) return [];
  const value = encryptionKeys && (await sha256Hex(encryptionKeys));
  if (value === null || value !== said) {
    const text = 'the keys shown for encryption are not those that the server names';
    return [make(kind, text, { value, code: 'binding-mismatch' })];
  }
  return [make(kind, 'requests can be encrypted to keys that the server names', { value })];
}

function keyClaim({ report, make }: Parts): Claim {
  const key = report.statement?.receiptKey ?? null;
  const address = report.signingAddress === null ? null : toHex(report.signingAddress);
  const value = key ?? address;
  const isOne = key === null || address === null || key === address;
  const code = isOne ? undefined : 'binding-mismatch';
  const statement = isOne
    ? 'answers are signed with this key'
    : 'the report names two keys that sign its answers';
  return make('server.receiptKey', statement, { value, code });
}

async function gpuClaims(parts: Parts): Promise<Claim[]> {
  const { report, make } = parts;
  const count = gpusServing(report);
  const evidence = await gpuEvidenceClaim(parts, count ?? 0);
  const found = evidence === null ? [] : [evidence];
  if (count === null) return found;
  const text = count === 0 ? 'it serves on no GPU' : `it serves on ${count} GPUs, or has them`;
  return [make('server.gpus', text, { value: count, unverified: SAID }), ...found];
}

/** null: there is none, and none is needed. */
async function gpuEvidenceClaim(parts: Parts, gpus: number): Promise<Claim | null> {
  const { report, context, make } = parts;
  const kind = 'server.gpuEvidence';
  const { statement, nvidiaPayload, gpuEvidence, gpuNonce, nonce } = report;
  const { gpusShown = gpuEvidence.length } = context;
  const said = statement?.gpuEvidenceSha256 ?? null;
  if (nvidiaPayload === null && said !== null) {
    return make(kind, 'the GPU evidence was left out', { code: 'binding-mismatch' });
  }
  if (nvidiaPayload === null) {
    if (gpus === 0) return null;
    const text = `the server has ${gpus} GPUs and shows evidence of none`;
    return make(kind, text, { code: 'set-incomplete' });
  }
  const value = await sha256Hex(utf8(nvidiaPayload));
  if (statement !== null && said !== value) {
    const text = 'the GPU evidence is not what the server quoted';
    return make(kind, text, { value, code: 'binding-mismatch' });
  }
  if (nonce === null || gpuNonce === null || !equalBytes(gpuNonce, nonce)) {
    const text = 'the GPU evidence was collected for another nonce';
    return make(kind, text, { value, code: 'nonce-mismatch' });
  }
  if (statement === null) {
    const unverified = 'another machine can have been asked with the same nonce';
    return make(kind, 'the GPU evidence has the nonce of the report', { value, unverified });
  }
  if (gpusShown < gpus) {
    const text = `the server has ${gpus} GPUs and shows evidence of ${gpusShown}`;
    return make(kind, text, { value, code: 'set-incomplete' });
  }
  return make(kind, 'the GPU evidence was collected for this report', { value });
}

const SAID = 'the software says so of itself: it holds if its own measurements are the expected';

/** What no signature can make more than the software's own word. */
async function saidClaims({ report, make }: Parts, statement: ReportStatement): Promise<Claim[]> {
  const { software, model, configurationSha256, observed } = statement;
  const said = (kind: ServerClaim, text: string, value: ClaimValue) =>
    make(kind, text, { value, unverified: SAID });
  const claims = [
    said(
      'server.software',
      `Bridgekeeper ${software.version} on Node ${software.node}`,
      software.bundleSha256 ?? software.filesSha256,
    ),
  ];
  if (model !== null) {
    const covers = { manifest: 'all its bytes', headers: 'its headers, not its weights' } as const;
    const what = model.covers === null ? 'no digest' : `a digest of ${covers[model.covers]}`;
    claims.push(said('server.model', `the model is ${model.name}, with ${what}`, model.sha256));
  }
  if (configurationSha256 !== null || report.configuration !== null) {
    const shown = report.configuration;
    const has = shown === null ? null : await sha256Hex(canonicalBytes(shown));
    const code = has === configurationSha256 ? undefined : 'binding-mismatch';
    const text = code ? 'the configuration shown is another' : 'the configuration is as shown';
    const value = configurationSha256;
    claims.push(make('server.configuration', text, { value, code, unverified: SAID }));
  }
  if (observed !== null) {
    const facts = describeObservation(observed);
    claims.push(
      make('server.observation', 'what the driver told the guest', {
        value: facts,
        unverified: 'nobody signed it; the GPU evidence is what is signed',
      }),
    );
  }
  return claims;
}
