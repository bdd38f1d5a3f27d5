import { describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { fromUtf8 } from '../core/bytes.ts';
import { ChainCache } from '../core/chain.ts';
import { appraiseDstackReport } from '../dstack/app.ts';
import { readDstackReport } from '../dstack/report.ts';
import { hasVectors, readVector } from '../testing/vectors.ts';
import { appraiseEventLog } from './event-log.ts';
import type { CpuContext } from './guest.ts';
import { INTEL_SGX_ROOTS } from './roots.ts';
import { readTdxCollateral } from './tdx-collateral.ts';
import { readTdxQuote } from './tdx-quote.ts';
import { appraiseTdxQuote } from './tdx-verify.ts';

/** When the collateral that lies beside the quote was fetched. */
const FETCHED_MS = Date.UTC(2025, 5, 19, 11, 16);

function contextAt(nowMs: number): CpuContext {
  return {
    nowMs,
    anchors: {
      nvidiaDevice: new Set(),
      nvidiaRim: new Set(),
      intelSgx: INTEL_SGX_ROOTS,
      amdArk: new Set(),
    },
    chains: new ChainCache(),
    nonce: null,
    references: null,
    revocation: null,
    expectedReportData: null,
  };
}

function text(path: string): string {
  return fromUtf8(readVector(path), path);
}

function faults(claims: readonly Claim[]): Record<string, string> {
  const found = claims.filter(({ status }) => status !== 'verified');
  return Object.fromEntries(found.map(({ kind, status, code }) => [kind, code ?? status]));
}

const isThere = hasVectors('a real TDX quote, a real event log of dstack');

describe.runIf(isThere)('a real TDX quote', () => {
  test('was up to date when its collateral was fetched', async () => {
    const quote = await readTdxQuote(readVector('tdx/quote.bin'));
    const collateral = await readTdxCollateral(text('tdx/collateral.json'));
    const claims = await appraiseTdxQuote(quote, collateral, contextAt(FETCHED_MS));
    expect(faults(claims)).toEqual({ 'cpu.reportData': 'unverified', 'cpu.system': 'unverified' });
    const tcb = claims.find(({ kind }) => kind === 'cpu.tcb');
    expect(tcb?.value).toBe('UpToDate');
    const later = await appraiseTdxQuote(quote, collateral, contextAt(Date.UTC(2026, 0, 1)));
    expect(faults(later)).toMatchObject({ 'cpu.collateralExpiry': 'collateral-expired' });
  });

  test('is not verified with one bit of what it says changed', async () => {
    const collateral = await readTdxCollateral(text('tdx/collateral.json'));
    for (const at of [12, 50, 200, 400, 570, 640, 700, 900, 1200]) {
      const bytes = readVector('tdx/quote.bin');
      bytes[at]! ^= 0x10;
      const quote = await readTdxQuote(bytes);
      const claims = await appraiseTdxQuote(quote, collateral, contextAt(FETCHED_MS));
      expect(faults(claims), `byte ${at}`).toHaveProperty('cpu.quote');
    }
  });
});

describe.runIf(isThere)('a real report of dstack', () => {
  test('has a log that leads to its four registers', async () => {
    const { quote, events } = await readDstackReport(text('dstack/quote-report.json'));
    expect(events).toHaveLength(28);
    // Its collateral is not at hand: that the quote is genuine is taken for given here.
    expect((await appraiseEventLog(events, quote, true)).status).toBe('verified');
    const renamed = text('dstack/quote-report.json').replace('app-id', 'app-ie');
    const other = await readDstackReport(renamed);
    const refused = await appraiseEventLog(other.events, other.quote, true);
    expect(refused.code).toBe('event-log-mismatch');
  });

  test('tells the app, which nothing vouches for without collateral', async () => {
    const report = await readDstackReport(text('dstack/quote-report.json'));
    const documents = { compose: null, gpuEvidence: null };
    const claims = await appraiseDstackReport(report, null, documents, contextAt(FETCHED_MS));
    const values = Object.fromEntries(claims.map(({ kind, value }) => [kind, value]));
    expect(values['app.identity']).toBe('3763bc34552cf3a27ff71ad5f7a90471562a1a2d');
    expect(values['app.compose']).toMatch(/^3763bc34552cf3a2/);
    expect(values['app.keyProvider']).toContain('name=local-sgx');
    const said = claims.filter(({ kind }) => kind.startsWith('app.'));
    expect(new Set(said.map(({ status }) => status))).toEqual(new Set(['unverified']));
  });
});
