import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LinuxHost, type LinuxParts } from './linux.ts';
import { ProgramHands } from './program.ts';

let root: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'fabric-host-'));
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

function put(path: string, content: string | Uint8Array): void {
  const full = join(root, path);
  mkdirSync(dirname(full), { recursive: true });
  writeFileSync(full, content);
}

function link(path: string, target: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  symlinkSync(target, join(root, path));
}

interface Device {
  readonly kind?: string;
  readonly group?: number;
  readonly driver?: string;
  readonly config?: number;
}

function device(bridge: string, bdf: string, options: Device = {}): void {
  const { kind = '0x030200', group = 7, driver = 'nvidia', config = 0x2901_10de } = options;
  const folder = `sys/devices/pci0000:00/${bridge}/${bdf}`;
  const word = Buffer.alloc(64);
  word.writeUInt32LE(config);
  put(`${folder}/vendor`, '0x10de\n');
  put(`${folder}/class`, `${kind}\n`);
  put(`${folder}/config`, word);
  put(`${folder}/reset_method`, 'flr bus\n');
  link(`${folder}/driver`, `../../../../bus/pci/drivers/${driver}`);
  link(`${folder}/iommu_group`, `../../../../kernel/iommu_groups/${group}`);
  link(`sys/bus/pci/devices/${bdf}`, `../../../devices/pci0000:00/${bridge}/${bdf}`);
}

function host(changes: Partial<LinuxParts> = {}): LinuxHost {
  mkdirSync(join(root, 'sys/bus/pci/devices'), { recursive: true });
  put('proc/sys/kernel/random/boot_id', 'boot-1\n');
  put('proc/stat', 'cpu 1 2\nbtime 1000\n');
  put('sys/module/nvidia/version', '590.48.01\n');
  return new LinuxHost({
    root,
    driverView: () => ({
      moduleId: 4,
      identity: '0'.repeat(16),
      fabric: null,
      encryption: { isOn: null, takesKeys: false },
      processes: [],
    }),
    vms: async () => [],
    kernelLog: () => [],
    write: (path, text) => writeFile(path, text),
    replace: (path, text) => writeFile(path, text),
    run: async () => undefined,
    daemon: { unit: 'nvidia-fabricmanager', configPath: 'etc/fm.cfg', statePath: 'tmp/fm.state' },
    ...changes,
  });
}

describe('a Linux host', () => {
  it('shows its GPUs and nothing else of NVIDIA’s', async () => {
    device('0000:00:01.0', '0000:1b:00.0');
    device('0000:00:02.0', '0000:2b:00.0', { kind: '0x068000' });
    const { gpus, bootId, driverVersion } = await host().observe();
    expect({ bootId, driverVersion }).toEqual({ bootId: 'boot-1', driverVersion: '590.48.01' });
    expect(gpus).toMatchObject([{ bdf: '0000:1b:00.0', driver: 'nvidia', moduleId: 4 }]);
  });

  it('does not decode what a suspended device reads as', async () => {
    device('0000:00:01.0', '0000:1b:00.0', { config: 0xffff_ffff });
    const [gpu] = (await host().observe()).gpus;
    expect(gpu!.configWord).toBe(0xffff_ffff);
  });

  it('knows what a reset reaches besides: what is behind the bridge in another group', async () => {
    device('0000:00:01.0', '0000:1b:00.0');
    device('0000:00:01.0', '0000:1b:00.1', { kind: '0x040300' });
    device('0000:00:01.0', '0000:1c:00.0', { kind: '0x020000', group: 8 });
    const [gpu] = (await host().observe()).gpus;
    expect(gpu!.resetReaches).toEqual(['0000:1c:00.0']);
  });

  it('knows which process has a GPU open for a guest, and asks no driver about it', async () => {
    device('0000:00:01.0', '0000:1b:00.0', { driver: 'vfio-pci' });
    put('proc/42/stat', `42 (qemu (x)) ${Array.from({ length: 30 }, (_, i) => i).join(' ')}`);
    link('proc/42/fd/9', '/dev/vfio/7');
    const [gpu] = (await host().observe()).gpus;
    expect(gpu).toMatchObject({ holders: [42], moduleId: null, identity: null });
  });

  it('tells starts of Fabric Manager apart, and whether its state is of this boot', async () => {
    const after = Array.from({ length: 30 }, (_, index) => index + 100).join(' ');
    put('proc/9/stat', `9 (nv-fabricmanage) ${after}`);
    put('tmp/fm.state', '');
    const { daemon } = await host().observe();
    expect(daemon).toEqual({ isRunning: true, instance: '9:119', hasState: true });
    const later = host();
    put('proc/stat', `btime ${2 ** 40}\n`);
    expect((await later.observe()).daemon.hasState).toBe(false);
  });

  it('reads Xids from the kernel’s log, each with its number there', async () => {
    const { faults } = await host({
      kernelLog: () => [
        '3,1201,55012,-;NVRM: Xid (PCI:0000:1B:00): 145, pid=1, RLW fault',
        '6,1202,55013,-;something else',
        '3,1203,55014,-;NVRM: Xid (PCI:0000:2b:00.0): 79, GPU has fallen off the bus.',
      ],
    }).observe();
    expect(faults).toEqual([
      { sequence: 1202, kind: 'xid', number: 145, bdf: '0000:1b:00.0' },
      { sequence: 1204, kind: 'off-the-bus', number: 79, bdf: '0000:2b:00.0' },
    ]);
  });

  it('resets by the bus or not at all', async () => {
    device('0000:00:01.0', '0000:1b:00.0');
    const folder = join(root, 'sys/bus/pci/devices/0000:1b:00.0');
    await host().reset('0000:1b:00.0');
    expect(await readFile(join(folder, 'reset_method'), 'utf8')).toBe('bus');
    expect(await readFile(join(folder, 'reset'), 'utf8')).toBe('1');
    writeFileSync(join(folder, 'reset_method'), 'flr\n');
    await expect(host().reset('0000:1b:00.0')).rejects.toMatchObject({ code: 'host-refused' });
    await expect(host().reset('../../x')).rejects.toMatchObject({ code: 'host-refused' });
  });

  it('binds only when the kernel says that it has', async () => {
    device('0000:00:01.0', '0000:1b:00.0');
    const driver = join(root, 'sys/bus/pci/devices/0000:1b:00.0/driver');
    const kernel = async (path: string) => {
      if (!path.endsWith('drivers_probe')) return;
      rmSync(driver);
      symlinkSync('../../../../bus/pci/drivers/vfio-pci', driver);
    };
    await host({ write: kernel }).bind('0000:1b:00.0', 'vfio-pci');
    const idle = host({ write: async () => undefined });
    await expect(idle.bind('0000:1b:00.0', 'nvidia')).rejects.toMatchObject({
      code: 'host-refused',
    });
  });

  it('starts Fabric Manager with the mode in its configuration', async () => {
    put('etc/fm.cfg', 'FABRIC_MODE=1\nFABRIC_MODE_RESTART=0\nLOG_LEVEL=4\n');
    const ran: string[] = [];
    const linux = host({
      run: async (program, args) => void ran.push([program, ...args].join(' ')),
    });
    await linux.startDaemon('resume');
    expect(await readFile(join(root, 'etc/fm.cfg'), 'utf8')).toBe(
      'FABRIC_MODE=1\nFABRIC_MODE_RESTART=1\nLOG_LEVEL=4\n',
    );
    expect(ran).toEqual(['systemctl start nvidia-fabricmanager']);
  });
});

describe('the operator’s program', () => {
  it.each([
    ['no JSON', 'nonsense'],
    ['another shape', '[{"id":"a"}]'],
    ['too much', JSON.stringify(Array(300).fill({ id: 'a', state: 'running', bdfs: [], pid: 1 }))],
  ])('is not believed with %s', async (_what, text) => {
    const hands = new ProgramHands(async () => text);
    await expect(hands.vms()).rejects.toMatchObject({ code: 'vm-failed' });
  });

  it('is told what is to be done, by one verb', async () => {
    const told: unknown[] = [];
    const hands = new ProgramHands(async (...call) => {
      told.push(call);
      return '';
    });
    await hands.start('a/1', { image: 'image', memoryBytes: 5 }, ['0000:1b:00.0']);
    expect(told).toEqual([
      ['start', { vm: 'a/1', image: 'image', memoryBytes: 5, bdfs: ['0000:1b:00.0'] }],
    ]);
  });
});
