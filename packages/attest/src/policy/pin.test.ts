import { describe, expect, test } from 'vitest';
import { type Claim, type ClaimValue, claim } from '../claims/claim.ts';
import { BUILT_IN_POLICIES } from './built-in.ts';
import { decide } from './decide.ts';
import { judge } from './judge.ts';
import { pinPolicy } from './pin.ts';
import { settle } from './settle.ts';

const EVIDENCE = BUILT_IN_POLICIES.get('evidence')!;

function about(
  subject: string,
  kind: string,
  value?: ClaimValue,
  more: Partial<Claim> = {},
): Claim {
  return claim({
    subject,
    kind,
    status: 'verified',
    voucher: 'device-signed',
    statement: kind,
    evidence: ['test'],
    ...(value !== undefined && { value }),
    ...more,
  });
}

interface Gpu {
  readonly class?: string;
  readonly mode?: string;
  readonly driver?: string;
  readonly vbios?: string;
}

const gpu = (index: number, facts: Gpu = {}): Claim[] => {
  const subject = `GPU-${index}`;
  return [
    ...['chain', 'signature', 'identity'].map((check) => about(subject, `gpu.${check}`)),
    about(subject, 'gpu.class', facts.class ?? 'hopper'),
    about(subject, 'gpu.mode', facts.mode ?? 'protected-pcie'),
    about(subject, 'gpu.driver', facts.driver ?? '590.12'),
    about(subject, 'gpu.vbios', facts.vbios ?? '96.00.A5.00.01'),
  ];
};
const nvswitch = (index: number, vbios = '96.10.73.00.01'): Claim[] => {
  const subject = `SWITCH-${index}`;
  return [
    ...['chain', 'signature', 'identity'].map((check) => about(subject, `switch.${check}`)),
    about(subject, 'switch.class', 'ls10'),
    about(subject, 'switch.vbios', vbios),
  ];
};
const open = { status: 'unverified', voucher: 'cpu-signed', why: 'compared with nothing' } as const;
const CPU = 'CPU';
const cpu = (changes: Readonly<Record<string, ClaimValue>> = {}): Claim[] => {
  const value = (kind: string, usual: ClaimValue) => changes[kind] ?? usual;
  const system = value('cpu.system', ['measurement=aa']);
  return [
    ...['chain', 'quote', 'debug'].map((check) => about(CPU, `cpu.${check}`)),
    about(CPU, 'cpu.tee', 'sev-snp'),
    about(CPU, 'cpu.launch', value('cpu.launch', 'aa')),
    about(CPU, 'cpu.measurements', value('cpu.measurements', ['measurement=aa', 'hostdata=00'])),
    about(CPU, 'cpu.system', system, open),
    about(CPU, 'cpu.tcb', value('cpu.tcb', ['snp=8', 'microcode=115']), open),
    about(CPU, 'cpu.committedTcb', value('cpu.committedTcb', ['snp=7']), open),
    about(CPU, 'cpu.platform', value('cpu.platform', ['smt=1', 'tsme=0'])),
    about(CPU, 'cpu.guestPolicy', value('cpu.guestPolicy', ['cxl=0'])),
    about(CPU, 'cpu.vmpl', value('cpu.vmpl', 0)),
    about(CPU, 'cpu.reportData', '64', open),
  ];
};
const app = about('APP', 'app.compose', 'cc', {
  status: 'depends-on',
  voucher: 'cpu-signed',
  dependsOn: ['cpu.system'],
  why: 'any system can measure any app',
});
const appIs = [app, { ...app, kind: 'app.identity', value: 'a1' }];

const MACHINE = [...cpu(), ...appIs, ...gpu(0), ...gpu(1, { driver: '590.48' }), ...nvswitch(0)];
const PIN = pinPolicy(EVIDENCE, MACHINE)!;
const judged = (claims: readonly Claim[]) => {
  const { reasons } = judge(settle(claims, PIN), PIN);
  return [...new Set(reasons.map(({ kind, rule }) => (kind === 'any' ? rule : kind)))];
};
const replaced = (...others: readonly Claim[]) => {
  const subjects = new Set(others.map(({ subject }) => subject));
  return [...MACHINE.filter(({ subject }) => !subjects.has(subject)), ...others];
};

describe('a pin', () => {
  test('verifies the machine that it was made of, and one that is newer', () => {
    expect(judged(MACHINE)).toEqual([]);
    expect(judged(replaced(...gpu(1, { driver: '595.0', vbios: '96.00.B0.00.01' })))).toEqual([]);
    expect(judged([...MACHINE, ...gpu(2)])).toEqual([]);
    expect(judged(replaced(...cpu({ 'cpu.tcb': ['snp=9', 'microcode=116'] })))).toEqual([]);
  });

  test('has the least of every device', () => {
    expect(PIN.minimum).toEqual([{ cpu: 1, app: 1, gpu: 2, switch: 1 }]);
    expect(PIN.require.gpu!['gpu.driver']).toEqual({ atLeast: '590.12' });
    expect(PIN.require.cpu!['cpu.tcb']).toEqual({ atLeast: { snp: 8, microcode: 115 } });
  });

  test.each<[string, readonly Claim[], string[]]>([
    ['fewer GPUs', MACHINE.filter(({ subject }) => subject !== 'GPU-1'), ['minimum[0].gpu']],
    ['no switch', MACHINE.filter(({ subject }) => subject !== 'SWITCH-0'), ['minimum[0].switch']],
    ['no CPU', [...gpu(0), ...gpu(1), ...nvswitch(0)], ['minimum[0].cpu', 'minimum[0].app']],
    ['no app', MACHINE.filter(({ subject }) => subject !== 'APP'), ['minimum[0].app']],
    ['another class', replaced(...gpu(0, { class: 'blackwell' })), ['gpu.class']],
    ['another mode', replaced(...gpu(0, { mode: 'single' })), ['gpu.mode']],
    ['an older driver', replaced(...gpu(0, { driver: '590.11' })), ['gpu.driver']],
    ['an older VBIOS', replaced(...gpu(1, { vbios: '96.00.A4.00.01' })), ['gpu.vbios']],
    ['an older BIOS of a switch', replaced(...nvswitch(0, '96.10.72.00.01')), ['switch.vbios']],
    ['another launch', replaced(...cpu({ 'cpu.launch': 'ab' })), ['cpu.launch']],
    [
      'other measurements',
      replaced(...cpu({ 'cpu.measurements': ['measurement=aa', 'hostdata=01'] })),
      ['cpu.measurements'],
    ],
    [
      'another system, on which its app depends',
      replaced(...cpu({ 'cpu.system': ['measurement=ab'] })),
      ['minimum[0].app', 'cpu.system', 'app.compose', 'app.identity'],
    ],
    ['older firmware', replaced(...cpu({ 'cpu.tcb': ['snp=7', 'microcode=115'] })), ['cpu.tcb']],
    [
      'firmware that can go back further',
      replaced(...cpu({ 'cpu.committedTcb': ['snp=6'] })),
      ['cpu.committedTcb'],
    ],
    ['another platform', replaced(...cpu({ 'cpu.platform': ['smt=0'] })), ['cpu.platform']],
    ['another policy', replaced(...cpu({ 'cpu.guestPolicy': ['cxl=1'] })), ['cpu.guestPolicy']],
    ['another privilege', replaced(...cpu({ 'cpu.vmpl': 2 })), ['cpu.vmpl']],
    ['another app', replaced(app, { ...app, kind: 'app.identity', value: 'a2' }), ['app.identity']],
  ])('refuses %s', (_, claims, reasons) => {
    expect(judged(claims).toSorted()).toEqual(reasons.toSorted());
  });

  test.each<[string, string, ClaimValue, ClaimValue]>([
    ['CPU', 'cpu.tee', 'sev-snp', 'tdx'],
    ['CPU', 'cpu.attributes', '00', '01'],
    ['CPU', 'cpu.collateral', 18, 17],
    ['CPU', 'cpu.qe', 4, 3],
    ['CPU', 'cpu.qeIdentity', 2, 1],
    ['CPU', 'cpu.teeTcbSvn', ['svn0=5'], ['svn0=4']],
    ['CPU', 'cpu.launchTcb', ['snp=7'], ['snp=6']],
    ['APP', 'app.keyProvider', ['name=kms'], ['name=none']],
    ['GPU-0', 'gpu.nvlink-encryption', true, false],
    ['SWITCH-0', 'switch.class', 'ls10', 'ls11'],
  ])('holds %s to its %s', (subject, kind, now, later) => {
    const others = MACHINE.filter((one) => one.subject !== subject || one.kind !== kind);
    const machine = (value: ClaimValue) => [...others, about(subject, kind, value)];
    // One GPU, since what only some of them prove is not pinned for all.
    const alone = (claims: readonly Claim[]) => claims.filter((one) => one.subject !== 'GPU-1');
    const pin = pinPolicy(EVIDENCE, alone(machine(now)))!;
    const kinds = (value: ClaimValue) =>
      decide(alone(machine(value)), pin).verdict.reasons.map((reason) => reason.kind);
    expect(kinds(now)).toEqual([]);
    expect(kinds(later)).toEqual([kind]);
  });

  test('leaves out what is not proven of all, and report data', () => {
    const old = about('GPU-1', 'gpu.mode', 'single', { ...open, voucher: 'operator-asserted' });
    const claims = MACHINE.map((one) =>
      one.subject === 'GPU-1' && one.kind === 'gpu.mode' ? old : one,
    );
    const { require } = pinPolicy(EVIDENCE, claims)!;
    expect(require.gpu).not.toHaveProperty(['gpu.mode']);
    expect(require.gpu).toHaveProperty(['gpu.driver']);
    expect(require.cpu).not.toHaveProperty(['cpu.reportData']);
  });

  test('is made of what is proven alone', () => {
    const without = (kind: string) => MACHINE.filter((one) => one.kind !== kind);
    expect(pinPolicy(EVIDENCE, [])).toBeNull();
    for (const kind of ['cpu.launch', 'cpu.measurements']) {
      expect(pinPolicy(EVIDENCE, without(kind))).toBeNull();
      const doubtful = { status: 'unverified', voucher: 'operator-asserted', why: 'x' } as const;
      const said = [...without(kind), about(CPU, kind, 'aa', doubtful)];
      expect(pinPolicy(EVIDENCE, said)).toBeNull();
    }
    const unsigned = MACHINE.filter(({ kind }) => !/\.(signature|quote)$/.test(kind));
    expect(pinPolicy(EVIDENCE, unsigned)).toBeNull();
  });
});
