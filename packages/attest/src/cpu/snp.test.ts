import { beforeAll, describe, expect, test } from 'vitest';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, concatBytes } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { ChainCache } from '../core/chain.ts';
import { inFull, wordless } from '../testing/appraisal.ts';
import {
  type AmdAuthority,
  makeAmdAuthority,
  makeAmdRevocationList,
  makeCertificateTable,
  makeSnpReport,
  type SnpChanges,
} from '../testing/snp-authority.ts';
import { CPU_CLAIM_KINDS } from './kinds.ts';
import { readRevocationList } from './revocation-list.ts';
import { readSnpReport } from './snp-report.ts';
import { readSnpCertificateTable } from './snp-table.ts';
import { appraiseSnpReport, readSnpEndorsement, type SnpContext } from './snp-verify.ts';

const NOW_MS = Date.UTC(2026, 0, 15);
const MINIMUM = { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode: 100 };

let milan: AmdAuthority;
let turin: AmdAuthority;
let provider: AmdAuthority;
beforeAll(async () => {
  [milan, turin, provider] = await Promise.all([
    makeAmdAuthority('Milan'),
    makeAmdAuthority('Turin'),
    makeAmdAuthority('Milan', true),
  ]);
});

function contextOf(changes: Partial<SnpContext> = {}): SnpContext {
  return {
    nowMs: NOW_MS,
    anchors: {
      nvidiaDevice: new Set(),
      nvidiaRim: new Set(),
      intelSgx: new Set(),
      amdArk: new Set([milan, turin, provider].map(({ arkSha256 }) => arkSha256)),
    },
    chains: new ChainCache(),
    nonce: null,
    references: null,
    revocation: null,
    expectedReportData: null,
    minimumTcb: MINIMUM,
    ...changes,
  };
}

interface Case {
  readonly by?: () => AmdAuthority;
  /** Whose certificates are shown; the signer's if it is left out. */
  readonly shown?: () => AmdAuthority;
  readonly report?: SnpChanges;
  readonly context?: Partial<SnpContext>;
  readonly isSignerRevoked?: boolean;
  readonly tamper?: (report: Bytes) => Bytes;
}

async function endorsementOf(authority: AmdAuthority) {
  const chain = await readSnpCertificateTable(makeCertificateTable(authority));
  return readSnpEndorsement(chain, null);
}

async function appraise(wanted: Case): Promise<Map<string, Claim>> {
  const { by = () => milan, shown = by, tamper = (bytes) => bytes } = wanted;
  const report = readSnpReport(tamper(await makeSnpReport(by(), wanted.report)));
  const list = await makeAmdRevocationList(shown(), wanted.isSignerRevoked ?? false);
  const chain = await readSnpCertificateTable(makeCertificateTable(shown()));
  const endorsement = readSnpEndorsement(chain, readRevocationList(list, 'the list'));
  const claims = await appraiseSnpReport(report, endorsement, contextOf(wanted.context));
  return new Map(claims.map((claim) => [claim.kind, claim]));
}

function faults(claims: Map<string, Claim>): Record<string, string> {
  const found = [...claims.values()].filter(({ status }) => status !== 'verified');
  return Object.fromEntries(found.map(({ kind, status, code }) => [kind, code ?? status]));
}

const BOTH = 'SNP report, AMD certificates';
/** Nothing is at hand to compare these with: a policy says what they are to be. */
const SYSTEM = { 'cpu.system': 'unverified' };
/** What the host runs, can go back to and launched with is all of one firmware here. */
const LOW = {
  'cpu.tcb': 'tcb-refused',
  'cpu.committedTcb': 'tcb-refused',
  'cpu.launchTcb': 'tcb-refused',
};
const REPORT_DATA = { ...SYSTEM, 'cpu.reportData': 'unverified' };

describe('a good report', () => {
  const cases: [string, Case][] = [
    ['of version 2', { report: { version: 2 } }],
    ['of version 3', {}],
    ['of version 5', { report: { version: 5 } }],
    ['of Turin', { by: () => turin, report: { version: 5 } }],
    ['signed with a provider’s key', { by: () => provider }],
    ['asked for at the last level that there is', { report: { vmpl: 3 } }],
    ['of a chip whose id its host hides', { report: { chipId: new Uint8Array(64) } }],
  ];
  test.each(cases)('%s is verified', async (_, wanted) => {
    const claims = await appraise(wanted);
    expect(faults(claims)).toEqual(REPORT_DATA);
    expect(claims.get('cpu.launch')?.value).toBe('3d'.repeat(48));
    for (const kind of claims.keys()) expect(CPU_CLAIM_KINDS).toContain(kind);
  });

  test('says what each claim rests on, who vouches for it and its value', async () => {
    const said = [...(await appraise({ report: { vmpl: 2 } })).values()].map(inFull);
    const identity = ['product=Milan-B0', `chip=${'c1'.repeat(64)}`];
    const tcb = ['fmc=0', 'bootloader=3', 'tee=0', 'snp=8', 'microcode=115'];
    const platform = [
      'smt',
      'tsme',
      'ecc',
      'raplDisabled',
      'ciphertextHiding',
      'aliasCheck',
      'tio',
    ].map((name) => `${name}=0`);
    const guestPolicy = [
      'smt=1',
      ...['migration', 'debug', 'singleSocket', 'cxl', 'aes256xts', 'raplDisabled'].map(
        (name) => `${name}=0`,
      ),
      'ciphertextHiding=0',
      'pageSwapDisabled=0',
    ];
    const registers = [
      `measurement=${'3d'.repeat(48)}`,
      `hostdata=${'00'.repeat(32)}`,
      ...['idkeydigest', 'authorkeydigest'].map((name) => `${name}=${'00'.repeat(48)}`),
      ...['familyid', 'imageid'].map((name) => `${name}=${'00'.repeat(16)}`),
    ];
    const system = registers.slice(0, 1);
    expect(said).toEqual([
      'CPU cpu.chain verified by vendor-signed [AMD certificates]',
      'CPU cpu.expiry verified by vendor-signed [AMD certificates]',
      'CPU cpu.revocation verified by vendor-signed [AMD revocation list]',
      'CPU cpu.quote verified by cpu-signed [SNP report]',
      `CPU cpu.identity verified by cpu-signed: ${JSON.stringify(identity)} [${BOTH}]`,
      `CPU cpu.tcb verified by cpu-signed: ${JSON.stringify(tcb)} [SNP report]`,
      `CPU cpu.committedTcb verified by cpu-signed: ${JSON.stringify(tcb)} [SNP report]`,
      `CPU cpu.launchTcb verified by cpu-signed: ${JSON.stringify(tcb)} [SNP report]`,
      `CPU cpu.platform verified by cpu-signed: ${JSON.stringify(platform)} [SNP report]`,
      `CPU cpu.guestPolicy verified by cpu-signed: ${JSON.stringify(guestPolicy)} [SNP report]`,
      'CPU cpu.vmpl verified by cpu-signed: 2 [SNP report]',
      'CPU cpu.tee verified by cpu-signed: "sev-snp" [SNP report]',
      'CPU cpu.debug verified by cpu-signed: false [SNP report]',
      'CPU cpu.migration verified by cpu-signed: false [SNP report]',
      `CPU cpu.launch verified by cpu-signed: "${'3d'.repeat(48)}" [SNP report]`,
      `CPU cpu.measurements verified by cpu-signed: ${JSON.stringify(registers)} [SNP report]`,
      `CPU cpu.system unverified by cpu-signed: ${JSON.stringify(system)} [SNP report]`,
      `CPU cpu.reportData unverified by cpu-signed: "${'64'.repeat(64)}" [SNP report]`,
    ]);
    const { value } = (await appraise({ by: () => provider })).get('cpu.identity')!;
    expect(value).toEqual(['product=Milan-B0', 'provider=cloud.example']);
  });

  test('without a list of what AMD revoked leaves that open, and nothing else', async () => {
    const { chain } = await endorsementOf(milan);
    const report = readSnpReport(await makeSnpReport(milan));
    const claims = await appraiseSnpReport(report, readSnpEndorsement(chain, null), contextOf());
    expect(faults(new Map(claims.map((claim) => [claim.kind, claim])))).toEqual({
      ...REPORT_DATA,
      'cpu.revocation': 'unverified',
    });
  });

  test('meets a minimum in every part of its firmware, or is refused', async () => {
    const exact = { fmc: 1, bootloader: 3, tee: 0, snp: 8, microcode: 115 };
    const under = async (minimumTcb: typeof exact) =>
      faults(await appraise({ by: () => turin, context: { minimumTcb } }));
    expect(await under(exact)).toEqual(REPORT_DATA);
    for (const part of ['fmc', 'bootloader', 'tee', 'snp', 'microcode'] as const) {
      const higher = { ...exact, [part]: exact[part] + 1 };
      expect(await under(higher)).toEqual({ ...REPORT_DATA, ...LOW });
    }
  });

  test('says in words what is so, and what it means if it is not', async () => {
    for (const context of [{}, { minimumTcb: null }]) {
      expect(wordless([...(await appraise({ context })).values()])).toEqual([]);
    }
    const open = (await appraise({ context: { minimumTcb: null } })).get('cpu.tcb');
    expect(open?.voucher).toBe('cpu-signed');
    const unproven = await appraise({ tamper: flip(0x91), context: { minimumTcb: null } });
    expect(unproven.get('cpu.tcb')?.voucher).toBe('operator-asserted');
    expect(unproven.get('cpu.reportData')?.voucher).toBe('operator-asserted');
  });

  test('tells what its platform runs with, and what its policy allows', async () => {
    const report = { platformInfo: 0b1010_0001n, policy: 0x39_0000n | 0x2_0000n };
    const claims = await appraise({ report });
    const on = (kind: string) =>
      (claims.get(kind)!.value as string[]).filter((one) => one.endsWith('=1'));
    expect(on('cpu.platform')).toEqual(['smt=1', 'aliasCheck=1', 'tio=1']);
    expect(on('cpu.guestPolicy')).toEqual(['smt=1', 'debug=1', 'singleSocket=1', 'cxl=1']);
  });

  test('tells its firmware', async () => {
    const claims = await appraise({ by: () => turin });
    const value = ['fmc=1', 'bootloader=3', 'tee=0', 'snp=8', 'microcode=115'];
    expect(claims.get('cpu.tcb')?.value).toEqual(value);
  });

  test('whose least firmware nobody gave leaves the TCB unverified', async () => {
    const claims = await appraise({ context: { minimumTcb: null } });
    expect(faults(claims)).toEqual({
      ...REPORT_DATA,
      'cpu.tcb': 'unverified',
      'cpu.committedTcb': 'unverified',
      'cpu.launchTcb': 'unverified',
    });
  });

  test('carries the report data that were asked for, or is refused', async () => {
    const reportData = new Uint8Array(64).fill(5);
    const context = { expectedReportData: reportData };
    expect(faults(await appraise({ report: { reportData }, context }))).toEqual(SYSTEM);
    const other = await appraise({ context });
    expect(faults(other)).toEqual({ ...SYSTEM, 'cpu.reportData': 'binding-mismatch' });
  });
});

describe('a report is refused', () => {
  const cases: [string, Case, string, string][] = [
    ['in debug mode', { report: { policy: 0xb_0000n } }, 'cpu.debug', 'debug-enabled'],
    ['when it can be migrated', { report: { policy: 0x7_0000n } }, 'cpu.migration', 'mode-refused'],
    ['at a level that there is not', { report: { vmpl: 4 } }, 'cpu.vmpl', 'mode-refused'],
    [
      'when AMD revoked its signer',
      { isSignerRevoked: true },
      'cpu.revocation',
      'certificate-revoked',
    ],
    [
      'with features of its platform that are not known',
      { report: { platformInfo: 1n << 6n } },
      'cpu.platform',
      'mode-refused',
    ],
    [
      'with features of its platform that nobody gave a name',
      { report: { platformInfo: 1n << 63n } },
      'cpu.platform',
      'mode-refused',
    ],
    [
      'when its host can go back to less firmware',
      { report: { committedTcb: '0300000000000801' } },
      'cpu.committedTcb',
      'tcb-refused',
    ],
    [
      'when it was launched under less firmware',
      { report: { launchTcb: '0300000000000801' } },
      'cpu.launchTcb',
      'tcb-refused',
    ],
    [
      'after AMD’s list of what it revoked ran out',
      { context: { nowMs: Date.UTC(2026, 1, 2) } },
      'cpu.revocation',
      'collateral-expired',
    ],
    [
      'before AMD’s list of what it revoked was made',
      { context: { nowMs: Date.UTC(2025, 11, 31) } },
      'cpu.revocation',
      'collateral-expired',
    ],
    [
      'at the highest level that there is not',
      { report: { vmpl: 0xff } },
      'cpu.vmpl',
      'mode-refused',
    ],
    [
      'below the least firmware',
      { context: { minimumTcb: { ...MINIMUM, microcode: 116 } } },
      'cpu.tcb',
      'tcb-refused',
    ],
  ];
  test.each(cases)('%s', async (_, wanted, kind, code) => {
    const also = kind === 'cpu.tcb' ? LOW : {};
    expect(faults(await appraise(wanted))).toEqual({ ...REPORT_DATA, ...also, [kind]: code });
  });

  const unproven: [string, Case, string, string][] = [
    ['when a byte of it changed', { tamper: flip(0x91) }, 'cpu.quote', 'signature-invalid'],
    ['when its signature changed', { tamper: flip(0x2a5) }, 'cpu.quote', 'signature-invalid'],
    [
      'of another chip',
      { report: { chipId: new Uint8Array(64).fill(2) } },
      'cpu.identity',
      'identity-mismatch',
    ],
    [
      'of another CPU than the key',
      { report: { cpuid: [0x19, 0x11, 1] } },
      'cpu.identity',
      'identity-mismatch',
    ],
    [
      'of other firmware than the key',
      { report: { reportedTcb: '0300000000000872' } },
      'cpu.identity',
      'binding-mismatch',
    ],
    ['of another kind of key', { report: { keyFlags: 4 } }, 'cpu.identity', 'identity-mismatch'],
    ['with the certificates of another', { shown: () => turin }, 'cpu.quote', 'signature-invalid'],
    [
      'when another root is pinned',
      { context: { anchors: { ...contextOfNone(), amdArk: new Set(['00'.repeat(32)]) } } },
      'cpu.chain',
      'root-not-pinned',
    ],
  ];
  test.each(unproven)('%s, and nothing it says is verified', async (_, wanted, kind, code) => {
    const claims = await appraise(wanted);
    expect(claims.get(kind)?.code).toBe(code);
    for (const said of ['cpu.identity', 'cpu.tcb', 'cpu.launch', 'cpu.debug', 'cpu.measurements']) {
      expect(claims.get(said)?.status, said).not.toBe('verified');
    }
  });

  test('once its certificates are not valid', async () => {
    const claims = await appraise({ context: { nowMs: Date.UTC(2019, 0, 1) } });
    expect(claims.get('cpu.expiry')?.code).toBe('certificate-expired');
    expect(claims.get('cpu.expiry')?.statement).toMatch(/^SEV-VCEK is not valid at this time$/);
  });
});

describe('reading', () => {
  const edits: [string, SnpChanges, (report: Bytes) => Bytes, string][] = [
    ['version 4', { version: 4 }, same, 'unsupported-version'],
    ['another algorithm', { algorithm: 2 }, same, 'unsupported-algorithm'],
    ['no signer', { keyFlags: 0x1c }, same, 'malformed'],
    ['reserved bits of the policy', { policy: 0x403_0000n }, same, 'malformed'],
    ['a policy without its fixed bit', { policy: 0x1_0000n }, same, 'malformed'],
    ['reserved bytes that are not zero', {}, flip(0x4c), 'malformed'],
    ['a CPU that its version does not tell', { version: 2 }, flip(0x188), 'malformed'],
    ['padding of the signature', {}, flip(0x2a0 + 48), 'malformed'],
    ['a byte less', {}, (report) => report.slice(0, -1), 'malformed'],
    ['a byte more', {}, (report) => concatBytes(report, new Uint8Array(1)), 'trailing-bytes'],
  ];
  test.each(edits)('a report with %s is refused', async (_, changes, edit, code) => {
    const report = edit(await makeSnpReport(milan, changes));
    expect(() => readSnpReport(report)).toThrow(expect.objectContaining({ code }));
  });

  const parse = (authority: () => AmdAuthority) =>
    Promise.all(
      [authority().key, authority().ask, authority().ark].map(({ der }) =>
        parseCertificate(der, 'certificate'),
      ),
    );

  test('certificates may come in any order, and twice', async () => {
    const [key, ask, ark] = await parse(() => milan);
    const names = (given: readonly Certificate[]) =>
      readSnpEndorsement(given, null).chain.map(({ commonName }) => commonName);
    const whole = ['SEV-VCEK', 'SEV-Milan', 'ARK-Milan'];
    expect(names([key!, ask!, ark!])).toEqual(whole);
    expect(names([ark!, ask!, key!, ask!, key!])).toEqual(whole);
    expect(names([ark!, key!])).toEqual(['SEV-VCEK']);
    expect(names([ask!, ark!])).toEqual([]);
  });

  test('certificates of two keys are refused: nobody says which one signed', async () => {
    const both = [...(await parse(() => milan)), ...(await parse(() => turin))];
    const refused = expect.objectContaining({ code: 'malformed' });
    expect(() => readSnpEndorsement(both, null)).toThrow(refused);
  });

  test.each([
    ['without those above the key', [0], 'cpu.chain', /above the key are not at hand/],
    ['without that of the key', [1, 2], 'cpu.quote', /of the key that signed is not at hand/],
    ['without any', [], 'cpu.chain', /of the key that signed is not at hand/],
  ])('%s nothing is verified, nor refused', async (_, places, kind, why) => {
    const all = await parse(() => milan);
    const list = readRevocationList(await makeAmdRevocationList(milan, true), 'the list');
    const endorsement = readSnpEndorsement(
      places.map((at) => all[at]!),
      list,
    );
    const report = readSnpReport(await makeSnpReport(milan));
    const context = contextOf({
      minimumTcb: { fmc: 0, bootloader: 0, tee: 0, snp: 0, microcode: 0 },
    });
    const claims = await appraiseSnpReport(report, endorsement, context);
    const isPlain = (claim: Claim) => claim.kind === 'cpu.expiry' && places.includes(0);
    const proven = claims.filter((claim) => claim.status !== 'unverified' && !isPlain(claim));
    expect(proven).toEqual([]);
    expect(claims.find((claim) => claim.kind === kind)?.why).toMatch(why);
  });

  test('a table without a key, or with one twice, is refused; AMD’s may be missing', async () => {
    const table = makeCertificateTable(milan);
    const without = (entry: number) => {
      const changed = table.slice();
      changed.fill(0xff, 24 * entry, 24 * entry + 16);
      return readSnpCertificateTable(changed);
    };
    await expect(without(0)).rejects.toMatchObject({ code: 'malformed' });
    expect((await without(1)).map(({ commonName }) => commonName)).toEqual([
      'SEV-VCEK',
      'ARK-Milan',
    ]);
    const twice = table.slice();
    twice.copyWithin(24, 0, 24);
    await expect(readSnpCertificateTable(twice)).rejects.toMatchObject({ code: 'malformed' });
  });
});

function same(bytes: Bytes): Bytes {
  return bytes;
}

function flip(at: number): (bytes: Bytes) => Bytes {
  return (bytes) => {
    const changed = bytes.slice();
    changed[at]! ^= 0x01;
    return changed;
  };
}

function contextOfNone() {
  return {
    nvidiaDevice: new Set<string>(),
    nvidiaRim: new Set<string>(),
    intelSgx: new Set<string>(),
  };
}
