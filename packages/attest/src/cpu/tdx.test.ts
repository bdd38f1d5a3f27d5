import { beforeAll, describe, expect, test } from 'vitest';
import { type Bytes, concatBytes } from '../core/bytes.ts';
import { AttestError } from '../core/errors.ts';
import { inFull, wordless } from '../testing/appraisal.ts';
import {
  type CollateralChanges,
  type IntelAuthority,
  makeEnclaveLevel,
  makeIntelAuthority,
  makeTcbLevel,
  makeTdxCollateral,
  QUOTE_NOW_MS,
} from '../testing/quote-authority.ts';
import { makeTdxQuote } from '../testing/quote-report.ts';
import { appraiseTdxCase, faultsOf, type TdxCase, tdxContext } from '../testing/tdx-appraisal.ts';
import { CPU_CLAIM_KINDS } from './kinds.ts';
import { readTdxCollateral } from './tdx-collateral.ts';
import { readTdxQuote } from './tdx-quote.ts';
import { appraiseTdxQuote } from './tdx-verify.ts';

const BEGIN = '-----BEGIN CERTIFICATE-----';
const END = '-----END CERTIFICATE-----';

let authority: IntelAuthority;
beforeAll(async () => {
  authority = await makeIntelAuthority();
});

const appraise = (wanted: TdxCase, by = authority) => appraiseTdxCase(authority, wanted, by);

/** Nothing is at hand to compare these with: a policy says what they are to be. */
const SYSTEM = { 'cpu.system': 'unverified' };
const OPEN = { ...SYSTEM, 'cpu.reportData': 'unverified' };

const GOOD_MODULE = {
  mrsigner: '00'.repeat(48),
  attributes: '00'.repeat(8),
  attributesMask: 'ff'.repeat(8),
};

/** TCB info with that module, in two levels, for the modules of version 1. */
function moduleOf(changes: Partial<typeof GOOD_MODULE>): Record<string, unknown> {
  const tcbLevels = [makeEnclaveLevel(4, 'UpToDate')];
  return { tdxModuleIdentities: [{ id: 'TDX_01', ...GOOD_MODULE, tcbLevels, ...changes }] };
}

const flip = (at: number) => (bytes: Bytes) => {
  const changed = bytes.slice();
  changed[at]! ^= 0x01;
  return changed;
};

describe('a good quote', () => {
  test.each(['4', '5.2', '5.3'] as const)('of form %s is verified', async (form) => {
    const claims = await appraise({ quote: { form, paddingBytes: 70 } });
    expect(faultsOf(claims)).toEqual(OPEN);
    expect(claims.get('cpu.tcb')?.value).toBe('UpToDate');
    expect(claims.get('cpu.collateral')?.value).toBe(18);
    expect(claims.get('cpu.launch')?.value).toBe('3d'.repeat(48));
    expect(claims.get('cpu.measurements')?.value).toContain(`rtmr2=${'42'.repeat(48)}`);
  });

  test('carries the report data that were asked for, or is refused', async () => {
    const reportData = new Uint8Array(64).fill(9);
    const asked = { expectedReportData: reportData };
    expect(faultsOf(await appraise({ quote: { reportData }, context: asked }))).toEqual(SYSTEM);
    const other = await appraise({ context: asked });
    expect(faultsOf(other)).toEqual({ ...SYSTEM, 'cpu.reportData': 'binding-mismatch' });
  });

  test('says what each claim rests on, who vouches for it and its value', async () => {
    const said = [...(await appraise({})).values()].map(inFull);
    const until = '2026-02-01T00:00:00.000Z';
    const zeros = '00'.repeat(48);
    const registers = [
      `mrtd=${'3d'.repeat(48)}`,
      ...[0, 1, 2, 3].map((i) => `rtmr${i}=${`4${i}`.repeat(48)}`),
      `mrseam=${'5e'.repeat(48)}`,
      ...['mrconfigid', 'mrowner', 'mrownerconfig'].map((name) => `${name}=${zeros}`),
    ];
    const identity = [`ppid=${'77'.repeat(16)}`, 'fmspc=00a06f000000'];
    const system = registers.slice(0, 4);
    expect(said).toEqual([
      'CPU cpu.chain verified by vendor-signed [TDX quote]',
      'CPU cpu.expiry verified by vendor-signed [TDX quote]',
      'CPU cpu.collateral verified by vendor-signed: 18 [Intel collateral]',
      'CPU cpu.qeIdentity verified by vendor-signed: 2 [Intel collateral]',
      `CPU cpu.collateralExpiry verified by vendor-signed: "${until}" [Intel collateral]`,
      'CPU cpu.revocation verified by vendor-signed [Intel collateral]',
      'CPU cpu.qe verified by vendor-signed: 4 [TDX quote, Intel collateral]',
      'CPU cpu.quote verified by cpu-signed [TDX quote]',
      `CPU cpu.identity verified by vendor-signed: ${JSON.stringify(identity)} [TDX quote]`,
      'CPU cpu.tcb verified by vendor-signed: "UpToDate" [TDX quote, Intel collateral]',
      'CPU cpu.advisories verified by vendor-signed: [] [TDX quote, Intel collateral]',
      'CPU cpu.attributes verified by cpu-signed: "0000001000000000" [TDX quote]',
      'CPU cpu.xfam verified by cpu-signed: "e702060000000000" [TDX quote]',
      'CPU cpu.teeTcbSvn verified by cpu-signed: ["svn0=5","svn1=1","svn2=2"] [TDX quote]',
      'CPU cpu.tee verified by cpu-signed: "tdx" [TDX quote]',
      'CPU cpu.debug verified by cpu-signed: false [TDX quote]',
      'CPU cpu.migration verified by cpu-signed: false [TDX quote]',
      `CPU cpu.launch verified by cpu-signed: "${'3d'.repeat(48)}" [TDX quote]`,
      `CPU cpu.measurements verified by cpu-signed: ${JSON.stringify(registers)} [TDX quote]`,
      `CPU cpu.system unverified by cpu-signed: ${JSON.stringify(system)} [TDX quote]`,
      `CPU cpu.reportData unverified by cpu-signed: "${'64'.repeat(64)}" [TDX quote]`,
    ]);
  });

  test('says in words what is so, and what it means if it is not', async () => {
    for (const collateral of [{}, null]) {
      expect(wordless([...(await appraise({ collateral })).values()])).toEqual([]);
    }
  });

  test('whose collateral is not at hand says no more than its software does', async () => {
    const claims = [...(await appraise({ collateral: null })).values()].slice(2);
    for (const { status, voucher } of claims) {
      expect(`${status} by ${voucher}`).toBe('unverified by operator-asserted');
    }
    const valued = claims.filter(({ value }) => value === null).map(({ kind }) => kind);
    expect(valued).toEqual(['cpu.collateral', 'cpu.qeIdentity', 'cpu.collateralExpiry', 'cpu.tcb']);
  });

  test('sets no attribute but those that are known, and none that weakens it', async () => {
    const said: Record<number, string> = {};
    for (let bit = 0; bit < 64; bit++) {
      const number = (1n << BigInt(bit)) | (1n << 28n);
      const bytes = Array.from({ length: 8 }, (_, i) => Number((number >> BigInt(8 * i)) & 0xffn));
      const attributes = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
      const claims = await appraise({ quote: { attributes } });
      const { 'cpu.reportData': _, 'cpu.system': _open, ...found } = faultsOf(claims);
      said[bit] = Object.entries(found).join(' ');
    }
    for (const [bit, found] of Object.entries(said).map(([b, f]) => [Number(b), f] as const)) {
      const expected =
        bit < 8
          ? 'cpu.debug,debug-enabled'
          : bit === 29
            ? 'cpu.migration,mode-refused'
            : [16, 27, 28, 30, 31, 62, 63].includes(bit)
              ? ''
              : 'cpu.attributes,mode-refused';
      expect(found, `attribute ${bit}`).toBe(expected);
    }
  });

  test('uses no extended features but those that are known, and those that all have', async () => {
    const known = [0, 1, 2, 5, 6, 7, 8, 9, 11, 12, 14, 15, 17, 18];
    for (let bit = 0; bit < 64; bit++) {
      // x87 and SSE are always there: without one of them it is refused.
      const word = ((1n << BigInt(bit)) ^ (bit < 2 ? 0b11n : 0n)) | (bit < 2 ? 0n : 0b11n);
      const bytes = Array.from({ length: 8 }, (_, i) => Number((word >> BigInt(8 * i)) & 0xffn));
      const xfam = bytes.map((byte) => byte.toString(16).padStart(2, '0')).join('');
      const claim = (await appraise({ quote: { xfam } })).get('cpu.xfam')!;
      const isGood = bit >= 2 && known.includes(bit);
      expect(claim.code ?? claim.status, `bit ${bit}`).toBe(isGood ? 'verified' : 'mode-refused');
    }
  });

  test('makes claims of the closed list alone, and one of each', async () => {
    const claims = await appraise({});
    for (const kind of claims.keys()) expect(CPU_CLAIM_KINDS).toContain(kind);
  });

  test('without collateral only shows that its chain is good', async () => {
    const claims = await appraise({ collateral: null });
    const verified = [...claims.values()].filter(({ status }) => status === 'verified');
    expect(verified.map(({ kind }) => kind).sort()).toEqual(['cpu.chain', 'cpu.expiry']);
    expect(claims.get('cpu.launch')?.voucher).toBe('operator-asserted');
  });
});

describe('a quote is refused', () => {
  const cases: [string, TdxCase, Record<string, string>][] = [
    [
      'in debug mode',
      { quote: { attributes: '0100001000000000' } },
      { 'cpu.debug': 'debug-enabled' },
    ],
    [
      'with unknown attributes',
      { quote: { attributes: '0001001000000000' } },
      { 'cpu.attributes': 'mode-refused' },
    ],
    [
      'when the host can inject faults',
      { quote: { attributes: '0000000000000000' } },
      { 'cpu.attributes': 'mode-refused' },
    ],
    [
      'when it can be migrated',
      { quote: { attributes: '0000003000000000' } },
      { 'cpu.migration': 'mode-refused' },
    ],
    [
      'when a service TD is bound to it',
      { quote: { form: '5.3', mrServiceTd: '5d'.repeat(48) } },
      { 'cpu.migration': 'mode-refused' },
    ],
    [
      'when its PCK is revoked',
      { collateral: { isPckRevoked: true } },
      { 'cpu.revocation': 'certificate-revoked' },
    ],
    [
      'when the CA of its PCK is revoked',
      { collateral: { isPlatformCaRevoked: true } },
      { 'cpu.revocation': 'certificate-revoked' },
    ],
    [
      'when half a service TD is bound to it',
      { quote: { form: '5.3', mrServiceTd: `${'00'.repeat(47)}5d` } },
      { 'cpu.migration': 'mode-refused' },
    ],
    [
      'when the TCB info is for another provisioning enclave',
      { collateral: { tcbInfo: { pceId: '0001' } } },
      { 'cpu.tcb': 'reference-conflict' },
    ],
    [
      'when the TDX module has other attributes than Intel says',
      { collateral: { tcbInfo: moduleOf({ attributes: '0100000000000000' }) } },
      { 'cpu.tcb': 'identity-mismatch' },
    ],
    [
      'when its TDX module is older than all levels',
      { quote: { teeTcbSvn: `010102${'00'.repeat(13)}` } },
      { 'cpu.tcb': 'tcb-refused' },
    ],
    [
      'when its quoting enclave is older than all levels',
      { collateral: { qeIdentity: { tcbLevels: [makeEnclaveLevel(5, 'UpToDate')] } } },
      { 'cpu.tcb': 'tcb-refused' },
    ],
    [
      'when the collateral is over',
      { context: { nowMs: QUOTE_NOW_MS + 31 * 86_400_000 } },
      { 'cpu.collateralExpiry': 'collateral-expired' },
    ],
    [
      'when the collateral is of the future',
      { context: { nowMs: QUOTE_NOW_MS - 31 * 86_400_000 } },
      { 'cpu.collateralExpiry': 'collateral-expired' },
    ],
    [
      'when the TCB info is for other platforms',
      { collateral: { tcbInfo: { fmspc: '00b06f000000' } } },
      { 'cpu.tcb': 'reference-conflict' },
    ],
    [
      'when the TDX module is of another signer',
      { quote: { mrSignerSeam: '11'.repeat(48) } },
      { 'cpu.tcb': 'identity-mismatch' },
    ],
    [
      'when Intel knows no such TDX module',
      { quote: { teeTcbSvn: `050902${'00'.repeat(13)}` } },
      { 'cpu.tcb': 'identity-mismatch' },
    ],
    [
      'of a TDX module that is not Intel’s, before it is for being older than all levels',
      {
        quote: { mrSignerSeam: '11'.repeat(48) },
        collateral: { tcbInfo: { tcbLevels: [makeTcbLevel('UpToDate', { pcesvn: 99 })] } },
      },
      { 'cpu.tcb': 'identity-mismatch' },
    ],
    [
      'when it is older than all levels',
      { collateral: { tcbInfo: { tcbLevels: [makeTcbLevel('UpToDate', { pcesvn: 99 })] } } },
      { 'cpu.tcb': 'tcb-refused' },
    ],
  ];
  test.each(cases)('%s', async (_, wanted, expected) => {
    const found = faultsOf(await appraise(wanted));
    expect(found).toEqual({ ...OPEN, ...expected });
  });

  const unproven: [string, TdxCase, string, string][] = [
    ['when a byte of its header changed', { tamper: flip(30) }, 'cpu.quote', 'signature-invalid'],
    ['when a register changed', { tamper: flip(400) }, 'cpu.quote', 'signature-invalid'],
    ['when its signature changed', { tamper: flip(640) }, 'cpu.quote', 'signature-invalid'],
    ['when the QE report changed', { tamper: flip(776) }, 'cpu.qe', 'signature-invalid'],
    [
      'when the QE binds another key',
      { tamper: flip(770 + 384 + 70) },
      'cpu.qe',
      'binding-mismatch',
    ],
    [
      'of a QE of another signer',
      { quote: { qeSigner: 'bb'.repeat(32) } },
      'cpu.qe',
      'identity-mismatch',
    ],
    ['of another product than the QE', { quote: { qeProduct: 1 } }, 'cpu.qe', 'identity-mismatch'],
    [
      'of a QE of another vendor',
      { quote: { qeVendor: '00'.repeat(16) } },
      'cpu.qe',
      'identity-mismatch',
    ],
    [
      'of a QE in debug mode',
      { quote: { qeAttributes: `13${'00'.repeat(15)}` } },
      'cpu.qe',
      'debug-enabled',
    ],
    [
      'of a QE with other attributes',
      { quote: { qeAttributes: `31${'00'.repeat(15)}` } },
      'cpu.qe',
      'identity-mismatch',
    ],
    [
      'of a QE with other optional state',
      { collateral: { qeIdentity: { miscselect: '01000000' } } },
      'cpu.qe',
      'identity-mismatch',
    ],
    [
      'when another root is pinned',
      {
        context: {
          anchors: {
            nvidiaDevice: new Set(),
            nvidiaRim: new Set(),
            intelSgx: new Set(['00'.repeat(32)]),
            amdArk: new Set(),
          },
        },
      },
      'cpu.chain',
      'root-not-pinned',
    ],
  ];
  test.each(unproven)('%s, and nothing it says is verified', async (_, wanted, kind, code) => {
    const claims = await appraise(wanted);
    expect(claims.get(kind)?.code).toBe(code);
    for (const said of ['cpu.quote', 'cpu.launch', 'cpu.measurements', 'cpu.tcb', 'cpu.debug']) {
      expect(claims.get(said)?.status, said).not.toBe('verified');
    }
  });

  test('when anyone made it under certificates of their own, with genuine collateral', async () => {
    const stranger = await makeIntelAuthority();
    const quote = await readTdxQuote(await makeTdxQuote(stranger));
    const collateral = await readTdxCollateral(await makeTdxCollateral(authority));
    const claims = await appraiseTdxQuote(quote, collateral, tdxContext(authority));
    const found = new Map(claims.map((claim) => [claim.kind, claim]));
    expect(found.get('cpu.chain')).toMatchObject({ status: 'refused', code: 'root-not-pinned' });
    const verified = claims.filter(({ status }) => status === 'verified').map(({ kind }) => kind);
    // What is good about it is Intel's, and not the quote's.
    expect(verified).toEqual([
      'cpu.expiry',
      'cpu.collateral',
      'cpu.qeIdentity',
      'cpu.collateralExpiry',
    ]);
  });

  test('for what it says against itself, even where nothing proves it genuine', async () => {
    const claims = await appraise({
      quote: { attributes: '0100003000000000' },
      collateral: null,
    });
    expect(claims.get('cpu.debug')?.code).toBe('debug-enabled');
    expect(claims.get('cpu.migration')).toMatchObject({
      code: 'mode-refused',
      statement: 'the guest can be migrated: the MIGRATABLE bit is set',
    });
  });

  test('when its PCK is expired', async () => {
    const other = await makeIntelAuthority({ pckNotAfter: '20260110000000' });
    const claims = await appraise(
      {
        context: {
          anchors: { ...tdxContext(authority).anchors, intelSgx: new Set([other.rootSha256]) },
        },
      },
      other,
    );
    const found = faultsOf(claims);
    expect(found).toEqual({
      ...OPEN,
      'cpu.expiry': 'certificate-expired',
    });
    expect(claims.get('cpu.expiry')?.statement).toContain('Test SGX PCK Certificate is not valid');
  });
});

describe('reading', () => {
  const edits: [string, (quote: Bytes) => Bytes, string][] = [
    ['of an SGX enclave', set(4, 0), 'unsupported-version'],
    ['of version 3', set(0, 3), 'unsupported-version'],
    ['of P-384', set(2, 3), 'unsupported-algorithm'],
    ['cut short', (quote) => quote.slice(0, -1), 'malformed'],
    ['with something behind it', (quote) => concatBytes(quote, Uint8Array.of(1)), 'trailing-bytes'],
    ['of a megabyte', (quote) => concatBytes(quote, new Uint8Array(1 << 20)), 'too-large'],
    ['certified by a key id', set(632 + 4 + 128, 3), 'unsupported-version'],
  ];
  test.each(edits)('a quote %s is refused', async (_, edit, code) => {
    const quote = edit(await makeTdxQuote(authority));
    await expect(readTdxQuote(quote)).rejects.toMatchObject({ code });
  });

  const documents: [string, CollateralChanges][] = [
    ['for SGX', { tcbInfo: { id: 'SGX' } }],
    ['of an odd date', { tcbInfo: { nextUpdate: 'tomorrow' } }],
    ['of an odd component', { tcbInfo: { tcbLevels: [makeTcbLevel('UpToDate', { sgx: [1] })] } }],
    ['of an unknown status', { tcbInfo: { tcbLevels: [makeTcbLevel('Splendid')] } }],
    ['of the QE of SGX', { qeIdentity: { id: 'QE' } }],
    ['with fields that nobody knows', { fields: { more: '' } }],
    ['with a list that is none', { fields: { pck_crl: '3000' } }],
    ['with a chain that is none', { fields: { tcb_info_issuer_chain: 'no chain' } }],
    [
      'with a chain that is broken twice',
      { fields: { tcb_info_issuer_chain: `${BEGIN}!${END}${BEGIN}` } },
    ],
  ];
  test.each(documents)('collateral %s is refused', async (_, changes) => {
    const json = await makeTdxCollateral(authority, changes);
    await expect(readTdxCollateral(json)).rejects.toBeInstanceOf(AttestError);
  });
});

function set(at: number, value: number): (bytes: Bytes) => Bytes {
  return (bytes) => {
    const changed = bytes.slice();
    changed[at] = value;
    return changed;
  };
}
