import type { Claim } from '../claims/claim.ts';
import type { Bytes } from '../core/bytes.ts';
import type { CpuContext } from '../cpu/guest.ts';
import { readTdxCollateral } from '../cpu/tdx-collateral.ts';
import { readTdxQuote } from '../cpu/tdx-quote.ts';
import { appraiseTdxQuote } from '../cpu/tdx-verify.ts';
import { makeContext } from './appraisal.ts';
import {
  type CollateralChanges,
  type IntelAuthority,
  makeTdxCollateral,
  QUOTE_NOW_MS,
} from './quote-authority.ts';
import { makeTdxQuote, type QuoteChanges } from './quote-report.ts';

/** What is other than good in a quote, its collateral (null: there is none), its circumstances. */
export interface TdxCase {
  readonly quote?: QuoteChanges;
  readonly collateral?: CollateralChanges | null;
  readonly context?: Partial<CpuContext>;
  /** Changes the finished quote. */
  readonly tamper?: (quote: Bytes) => Bytes;
}

/** A context in which the authority's root is pinned, while everything of it is good. */
export function tdxContext(
  { rootSha256 }: IntelAuthority,
  changes: Partial<CpuContext> = {},
): CpuContext {
  const { anchors, ...rest } = makeContext({ nowMs: QUOTE_NOW_MS });
  const trusted = { ...anchors, intelSgx: new Set([rootSha256]) };
  return { ...rest, anchors: trusted, expectedReportData: null, ...changes };
}

/** The claims, by kind, about a quote of `by` where `authority` is pinned. */
export async function appraiseTdxCase(
  authority: IntelAuthority,
  wanted: TdxCase,
  by = authority,
): Promise<Map<string, Claim>> {
  const { quote = {}, collateral = {}, context = {}, tamper = (bytes) => bytes } = wanted;
  const read = await readTdxQuote(tamper(await makeTdxQuote(by, quote)));
  const stated =
    collateral === null ? null : await readTdxCollateral(await makeTdxCollateral(by, collateral));
  const claims = await appraiseTdxQuote(read, stated, tdxContext(authority, context));
  return new Map(claims.map((claim) => [claim.kind, claim]));
}

/** The kinds of claims that are not verified, with code or status. */
export function faultsOf(claims: ReadonlyMap<string, Claim>): Record<string, string> {
  const found = [...claims.values()].filter(({ status }) => status !== 'verified');
  return Object.fromEntries(found.map(({ kind, status, code }) => [kind, code ?? status]));
}
