import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readPolicy } from '@bridgekeeper/attest';
import { makeFirmware } from '@bridgekeeper/attest/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { testIo } from '../testing/test-io.ts';
import { runCli } from './program.ts';

const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-measure-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const place = (name: string) => join(scratch, name);

const section = { at: 0, contentBytes: 0, attributes: 0 };
writeFileSync(
  place('OVMF.fd'),
  makeFirmware({
    sev: [
      { address: 0x80_0000, bytes: 0x3000, type: 1 },
      { address: 0x80_d000, bytes: 0x1000, type: 2 },
      { address: 0x80_e000, bytes: 0x1000, type: 3 },
      { address: 0x80_f000, bytes: 0x1000, type: 4 },
      { address: 0x81_0000, bytes: 0x1000, type: 0x10 },
    ],
    hashTableAddress: 0x81_0c00,
    resetAddress: 0x80_b004,
  }),
);
writeFileSync(
  place('TDVF.fd'),
  makeFirmware({
    tdx: [
      { ...section, contentBytes: 0x1000, address: 0xffff_f000, bytes: 0x1000, type: 1 },
      { ...section, address: 0x80_9000, bytes: 0x2000, type: 2 },
    ],
  }),
);
writeFileSync(place('kernel'), 'a kernel');
writeFileSync(place('initrd'), 'a disk');
const OVMF = place('OVMF.fd');
const TDVF = place('TDVF.fd');

async function measure(...args: readonly string[]) {
  const { io, out, err } = testIo();
  const code = await runCli(['measure', ...args], io);
  return { code, out: out.join('\n'), err: err.join('\n') };
}

/** The policy that was printed, as `verify` reads it. */
async function policyOf(...args: readonly string[]) {
  const { code, out, err } = await measure(...args);
  expect(code).toBe(0);
  return { policy: readPolicy(out, 'the policy'), err };
}

describe('measure snp', () => {
  const QEMU = ['snp', OVMF, '--vcpu-type', 'EPYC-Milan'];
  const boot = ['--kernel', place('kernel'), '--initrd', place('initrd')];

  test('prints a policy that expects the guest, and is one', async () => {
    const line = ['--cmdline', 'console=ttyS0'];
    const { policy, err } = await policyOf(...QEMU, '--vcpus', '1', ...boot, ...line);
    // By sev-snp-measure 0.0.13.
    const launch = Buffer.from(
      'vFGFURH7HA25pnCm/psBZhPQr8lQ2Cz3LRP3ZVx3DcwKEy2s3y1bGq+HI7Ha9FoG',
      'base64',
    ).toString('hex');
    expect(policy.name).toBe('service, measured');
    expect(policy.require.cpu?.['cpu.launch']).toEqual({ oneOf: [launch] });
    expect(policy.require.cpu?.['cpu.measurements']).toEqual({
      includes: [`measurement=${launch}`],
    });
    expect(err).toBe('');
  });

  test('says that a kernel which is not given is not covered', async () => {
    const { policy, err } = await policyOf(...QEMU, '--vcpus', '4', '--guest-features', '0x21');
    expect(policy.require.cpu?.['cpu.launch']?.oneOf?.[0]).toMatch(/^280e38a98efb87e9/);
    expect(err).toContain('the kernel is left open');
  });

  test('asks the server for the bundle that the image holds', async () => {
    const bundle = ['--bundle-digest', 'ab'.repeat(32)];
    const { policy } = await policyOf(...QEMU, '--vcpus', '1', ...boot, ...bundle);
    expect(policy.require.server?.['server.software']).toEqual({
      oneOf: ['ab'.repeat(32)],
      believe: ['guest-observed'],
    });
  });

  test.each([
    [QEMU, '--vcpus: say how many'],
    [['snp', OVMF, '--vcpus', '1'], '--vcpu-type: must be one of EPYC'],
    [[...QEMU, '--vcpus', '1', '--initrd', place('initrd')], 'give --kernel, too'],
    [[...QEMU, '--vcpus', '1', '--kernel', place('none')], '--kernel: '],
    [[...QEMU, '--vcpus', '1', '--policy', place('none')], '--policy: '],
    [['snp', TDVF, '--vcpu-type', 'EPYC', '--vcpus', '1'], 'cannot be started with SEV-SNP'],
    [['snp', scratch, '--vcpu-type', 'EPYC', '--vcpus', '1'], 'it is not a file'],
  ])('%j exits with 2', async (args, message) => {
    const { code, out, err } = await measure(...args);
    expect([code, out, err]).toEqual([2, '', expect.stringContaining(message)]);
  });
});

describe('measure tdx', () => {
  const acpi = ['loader', 'rsdp', 'tables'].flatMap((name, i) => [
    `--acpi-${name}`,
    `${i}${i}`.repeat(48),
  ]);

  test('expects either order of pages, and names each register that it leaves open', async () => {
    const { policy, err } = await policyOf('tdx', TDVF);
    expect(policy.require.cpu?.['cpu.launch']?.oneOf).toHaveLength(2);
    // Of no values: `verify` refuses until the policy says what they are.
    expect(policy.require.cpu?.['cpu.measurements']).toEqual({ includes: [] });
    for (const register of ['RTMR0', 'RTMR1', 'RTMR2', 'RTMR3']) {
      expect(err).toContain(`${register} is left open`);
    }
  });

  test('expects what it is told enough for', async () => {
    writeFileSync(place('app-compose.json'), '{}');
    const { policy, err } = await policyOf(
      ...['tdx', TDVF, '--memory', '2G', ...acpi, '--kernel-authenticode', '44'.repeat(48)],
      ...['--cmdline', 'root=/dev/vda initrd=initrd', '--initrd', place('initrd')],
      ...['--page-order', 'single-pass', '--app-compose', place('app-compose.json')],
    );
    expect(policy.require.cpu?.['cpu.launch']?.oneOf).toHaveLength(1);
    const names = policy.require.cpu?.['cpu.measurements']?.includes?.map((one) => one.slice(0, 6));
    expect(names).toEqual(['rtmr0=', 'rtmr1=', 'rtmr2=']);
    expect(policy.require.app?.['app.compose']?.oneOf).toEqual([
      '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a',
    ]);
    expect(policy.minimum).toEqual(policy.minimum.map((set) => ({ ...set, cpu: 1, app: 1 })));
    expect(policy.atMost).toMatchObject({ cpu: 1, app: 1 });
    const system = policy.require.cpu?.['cpu.system']?.includes;
    expect(system?.map((one) => one.slice(0, 5))).toEqual(['mrtd=', 'rtmr0', 'rtmr1', 'rtmr2']);
    expect(err.match(/left open/g)).toHaveLength(1);
  });

  test.each([
    [['tdx', OVMF], 'cannot be started with TDX'],
    [['tdx', TDVF, ...acpi.slice(0, 2)], 'give all three'],
    [['tdx', TDVF, '--kernel-authenticode', 'ab'], '96 hex digits'],
  ])('%j exits with 2', async (args, message) => {
    const { code, err } = await measure(...args);
    expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  });
});
