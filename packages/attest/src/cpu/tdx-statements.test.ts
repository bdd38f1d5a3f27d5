import { beforeAll, describe, expect, test } from 'vitest';
import { toHex } from '../core/bytes.ts';
import { toPem } from '../testing/certificates.ts';
import {
  type CollateralChanges,
  type IntelAuthority,
  makeIntelAuthority,
  makeTcbSigner,
  makeTdxCollateral,
  QUOTE_NOW_MS,
} from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import { makeRevocationList } from '../testing/revocation.ts';
import { appraiseTdxCase, faultsOf, type TdxCase, tdxContext } from '../testing/tdx-appraisal.ts';
import { readTdxCollateral } from './tdx-collateral.ts';
import { readTdxQuote } from './tdx-quote.ts';
import { appraiseTdxQuote } from './tdx-verify.ts';

let authority: IntelAuthority;
beforeAll(async () => {
  authority = await makeIntelAuthority();
});

const appraise = (wanted: TdxCase, by = authority) => appraiseTdxCase(authority, wanted, by);

describe('collateral that is not the platform vendor’s', () => {
  const unproven: [string, (a: IntelAuthority, b: IntelAuthority) => CollateralChanges, string][] =
    [
      ['signed by the PCK', ({ pck }) => ({ signer: pck }), 'chain-broken'],
      ['signed by the CA of PCKs', ({ platformCa }) => ({ signer: platformCa }), 'chain-broken'],
      ['signed below another root', (_, { tcbSigner }) => ({ signer: tcbSigner }), 'chain-broken'],
      [
        'with a signature of something else',
        () => ({ fields: { tcb_info_signature: '01'.repeat(64) } }),
        'signature-invalid',
      ],
      [
        'with a signature cut short',
        () => ({ fields: { qe_identity_signature: '01'.repeat(63) } }),
        'signature-invalid',
      ],
    ];
  test.each(unproven)('%s is refused', async (_, changes, code) => {
    const other = await makeIntelAuthority();
    const claims = await appraise({ collateral: changes(authority, other) });
    expect(claims.get('cpu.collateral')?.code).toBe(code);
    expect(claims.get('cpu.quote')?.status).toBe('unverified');
    expect(claims.get('cpu.tcb')?.status).toBe('unverified');
  });

  const chains: [string, (a: IntelAuthority) => string][] = [
    ['that ends at its signer', ({ tcbSigner }) => toPem([tcbSigner])],
    ['with its root twice', ({ tcbSigner, root }) => toPem([tcbSigner, root, root])],
  ];
  test.each(chains)('under a chain %s is refused', async (_, chain) => {
    for (const name of ['tcb_info_issuer_chain', 'qe_identity_issuer_chain']) {
      const claims = await appraise({ collateral: { fields: { [name]: chain(authority) } } });
      expect(claims.get('cpu.collateral')?.code).toBe('chain-broken');
      expect(claims.get('cpu.quote')?.status).toBe('unverified');
    }
  });

  test('whose signer is revoked, of the one statement or the other, is refused', async () => {
    const { root } = authority;
    const revoked = Uint8Array.of(0x51, 3);
    const signer = await makeTcbSigner(root, { serial: revoked });
    const list = await makeRevocationList({
      issuer: root,
      serials: [revoked],
      thisUpdate: '20260101000000',
      nextUpdate: '20260201000000',
    });
    const fields = { root_ca_crl: toHex(list) };
    const good = await appraise({ collateral: { fields } });
    expect(faultsOf(good)).toEqual({ 'cpu.reportData': 'unverified', 'cpu.system': 'unverified' });
    for (const changes of [
      { signer, qeIdentitySigner: authority.tcbSigner },
      { qeIdentitySigner: signer },
    ]) {
      const claims = await appraise({ collateral: { ...changes, fields } });
      expect(claims.get('cpu.revocation')?.code).toBe('certificate-revoked');
    }
  });

  test('whose signer is expired, of the one statement or the other, is refused', async () => {
    const signer = await makeTcbSigner(authority.root, { notAfter: '20260110000000' });
    for (const changes of [
      { signer, qeIdentitySigner: authority.tcbSigner },
      { qeIdentitySigner: signer },
    ]) {
      const claims = await appraise({ collateral: changes });
      expect(claims.get('cpu.collateralExpiry')).toMatchObject({
        code: 'certificate-expired',
        statement: expect.stringContaining('Intel SGX TCB Signing signed'),
      });
    }
  });

  test('counts as evaluated when the older of its statements was', async () => {
    for (const name of ['tcbInfo', 'qeIdentity'] as const) {
      const claims = await appraise({ collateral: { [name]: { tcbEvaluationDataNumber: 17 } } });
      expect(claims.get('cpu.collateral')?.value).toBe(17);
    }
  });

  test('holds from when all of it begins to when the first of it ends', async () => {
    const state = async (collateral: CollateralChanges, nowMs = QUOTE_NOW_MS) => {
      const claims = await appraise({ collateral, context: { nowMs } });
      const { code, status } = claims.get('cpu.collateralExpiry')!;
      return code ?? status;
    };
    const begin = Date.UTC(2026, 0, 1);
    const end = Date.UTC(2026, 1, 1);
    expect(await state({}, begin)).toBe('verified');
    expect(await state({}, end)).toBe('verified');
    expect(await state({}, begin - 1)).toBe('collateral-expired');
    expect(await state({}, end + 1)).toBe('collateral-expired');
    const later = { issueDate: '2026-01-16T00:00:00Z' };
    const earlier = { nextUpdate: '2026-01-14T00:00:00Z' };
    for (const change of [later, earlier]) {
      expect(await state({ tcbInfo: change })).toBe('collateral-expired');
      expect(await state({ qeIdentity: change })).toBe('collateral-expired');
    }
    const { platformCa, root } = authority;
    const times = { thisUpdate: '20260101000000', nextUpdate: '20260201000000' };
    for (const [name, issuer] of [
      ['pck_crl', platformCa],
      ['root_ca_crl', root],
    ] as const) {
      const listed = async (change: Partial<Parameters<typeof makeRevocationList>[0]>) => {
        const list = await makeRevocationList({ issuer, ...times, ...change });
        return state({ fields: { [name]: toHex(list) } });
      };
      expect(await listed({ thisUpdate: '20260116000000' })).toBe('collateral-expired');
      expect(await listed({ nextUpdate: '20260114000000' })).toBe('collateral-expired');
      // A list need not say when the next one comes.
      expect(await listed({ nextUpdate: null })).toBe('verified');
    }
  });

  test('of which one list is no good hides nothing that another one says', async () => {
    const collateral = { listIssuer: authority.root, isPlatformCaRevoked: true };
    const claims = await appraise({ collateral });
    expect(claims.get('cpu.revocation')?.code).toBe('certificate-revoked');
  });

  test('with a revocation list of another issuer leaves revocation unknown', async () => {
    const other = await makeIntelAuthority();
    const claims = await appraise({ collateral: { listIssuer: other.platformCa } });
    expect(claims.get('cpu.revocation')?.code).toBe('revocation-unknown');
    const root = await appraise({ collateral: { listIssuer: authority.root } });
    expect(root.get('cpu.revocation')?.code).toBe('revocation-unknown');
  });

  test('of another machine vendor altogether verifies nothing', async () => {
    const other = await makeIntelAuthority();
    const quote = await readTdxQuote(await makeTdxQuote(authority));
    const collateral = await readTdxCollateral(await makeTdxCollateral(other));
    const claims = await appraiseTdxQuote(quote, collateral, tdxContext(authority));
    const found = new Map(claims.map((claim) => [claim.kind, claim]));
    expect(found.get('cpu.collateral')?.code).toBe('root-not-pinned');
    expect(found.get('cpu.quote')?.status).toBe('unverified');
  });
});
