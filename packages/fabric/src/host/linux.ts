import { readdir, readFile, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FabricError } from '../errors.ts';
import type { RestartMode } from '../log/entries.ts';
import type { HostControl } from './control.ts';
import type {
  HostObservation,
  HostProbe,
  ObservedDaemon,
  ObservedEncryption,
  ObservedFabric,
  ObservedFault,
  ObservedGpu,
  ObservedVm,
} from './host.ts';

/** What NVIDIA's driver says of a GPU that it has. */
export interface DriverView {
  readonly moduleId: number | null;
  readonly identity: string | null;
  readonly fabric: ObservedFabric | null;
  readonly encryption: ObservedEncryption;
  /** Processes that compute on it. */
  readonly processes: readonly number[];
}

/** Where Fabric Manager's service, configuration and state are. */
export interface DaemonPlaces {
  /** Of systemd. */
  readonly unit: string;
  readonly configPath: string;
  readonly statePath: string;
}

/** What of a Linux host is reached, so that tests can have one in a folder. */
export interface LinuxParts {
  /** `/`, or what stands for it. */
  readonly root: string;
  readonly driverView: (bdf: string) => DriverView | null;
  readonly vms: () => Promise<readonly ObservedVm[]>;
  /** Records of /dev/kmsg of this boot that name a fault. */
  readonly kernelLog: () => readonly string[];
  /** Writes to a file of sysfs: one write, nothing created. */
  readonly write: (path: string, text: string) => Promise<void>;
  /** Replaces a file as a whole. */
  readonly replace: (path: string, text: string) => Promise<void>;
  /** Runs a program to its end; rejects unless it succeeds. */
  readonly run: (program: string, args: readonly string[]) => Promise<void>;
  readonly daemon: DaemonPlaces;
}

const BDF = /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;
const NVIDIA = '0x10de';
/** Display controllers, whose third kind (3D) is what a data centre's GPU is. */
const GPU_CLASS = /^0x0300|^0x0302/;
const DAEMON = 'nv-fabricmanager';
const PROCESSES_MAX = 100_000;
const XID = /NVRM: (S?Xid) \(PCI:([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2})(?:\.([0-7]))?\): (\d+)/i;
const OFF_THE_BUS = 79;

/** A Linux host with NVIDIA's driver, as its kernel shows it in /sys and /proc. */
export class LinuxHost implements HostProbe, HostControl {
  readonly #parts: LinuxParts;

  constructor(parts: LinuxParts) {
    this.#parts = parts;
  }

  async observe(): Promise<HostObservation> {
    try {
      const processes = await this.#processes();
      const bootId = (await this.#text('proc/sys/kernel/random/boot_id')).trim();
      const driverVersion = await this.#textOrNull('sys/module/nvidia/version');
      return {
        bootId,
        driverVersion: driverVersion?.trim() ?? null,
        daemon: await this.#daemon(processes),
        gpus: await this.#gpus(processes),
        vms: await this.#parts.vms(),
        faults: this.#parts.kernelLog().flatMap(faultOf),
      };
    } catch (cause) {
      if (cause instanceof FabricError) throw cause;
      const why = `this host cannot be read: ${(cause as Error).message}`;
      throw new FabricError('host-unreadable', `${why}; --root says where its files are`, {
        cause,
      });
    }
  }

  async reset(bdf: string): Promise<void> {
    const folder = this.#device(bdf);
    const methods = (await this.#textOrNull(join(folder, 'reset_method'))) ?? '';
    if (!methods.split(/\s+/).includes('bus')) {
      const advice = 'a reset of the function alone leaves what the last guest’s firmware had';
      throw new FabricError('host-refused', `${bdf}: the kernel offers no bus reset; ${advice}`);
    }
    await this.#write(bdf, join(folder, 'reset_method'), 'bus');
    await this.#write(bdf, join(folder, 'reset'), '1');
  }

  async bind(bdf: string, driver: 'nvidia' | 'vfio-pci'): Promise<void> {
    const folder = this.#device(bdf);
    const bound = await this.#linkName(join(folder, 'driver'));
    if (bound === driver) return;
    await this.#write(bdf, join(folder, 'driver_override'), driver);
    if (bound !== null) await this.#write(bdf, join(folder, 'driver/unbind'), bdf);
    await this.#write(bdf, 'sys/bus/pci/drivers_probe', bdf);
    const now = await this.#linkName(join(folder, 'driver'));
    if (now === driver) return;
    const has = now ?? 'none';
    throw new FabricError('host-refused', `${bdf}: bound to ${has} and not to ${driver}`);
  }

  async startDaemon(mode: RestartMode): Promise<void> {
    const { unit, configPath } = this.#parts.daemon;
    const config = await this.#textOrNull(configPath);
    if (config === null) {
      throw new FabricError(
        'host-refused',
        `${configPath}: Fabric Manager has no configuration there`,
      );
    }
    const line = `FABRIC_MODE_RESTART=${mode === 'resume' ? 1 : 0}`;
    const changed = /^FABRIC_MODE_RESTART=.*$/m.test(config)
      ? config.replace(/^FABRIC_MODE_RESTART=.*$/m, line)
      : `${config.trimEnd()}\n${line}\n`;
    await this.#change(unit, configPath, () =>
      this.#parts.replace(this.#path(configPath), changed),
    );
    await this.#run('systemctl', ['start', unit]);
  }

  async stopDaemon(): Promise<void> {
    await this.#run('systemctl', ['stop', this.#parts.daemon.unit]);
  }

  async #gpus(processes: readonly Process[]): Promise<ObservedGpu[]> {
    const gpus: ObservedGpu[] = [];
    for (const bdf of (await this.#names('sys/bus/pci/devices')).toSorted()) {
      if (!BDF.test(bdf)) continue;
      const folder = this.#device(bdf);
      const vendor = (await this.#text(join(folder, 'vendor'))).trim();
      const kind = (await this.#text(join(folder, 'class'))).trim();
      if (vendor === NVIDIA && GPU_CLASS.test(kind)) gpus.push(await this.#gpu(bdf, processes));
    }
    return gpus;
  }

  async #gpu(bdf: string, processes: readonly Process[]): Promise<ObservedGpu> {
    const folder = this.#device(bdf);
    const driver = await this.#linkName(join(folder, 'driver'));
    const group = await this.#linkName(join(folder, 'iommu_group'));
    const config = await readFile(this.#path(join(folder, 'config')));
    const view = driver === 'nvidia' ? this.#parts.driverView(bdf) : null;
    const isOpen = ({ opens }: Process) => group !== null && opens.includes(`/dev/vfio/${group}`);
    return {
      bdf,
      driver: driver === null || driver === 'nvidia' || driver === 'vfio-pci' ? driver : 'other',
      configWord: config.readUInt32LE(0),
      moduleId: view?.moduleId ?? null,
      identity: view?.identity ?? null,
      fabric: view?.fabric ?? null,
      encryption: view?.encryption ?? null,
      holders: [...processes.filter(isOpen).map(({ pid }) => pid), ...(view?.processes ?? [])],
      resetReaches: await this.#resetReaches(folder, group),
    };
  }

  /** What is behind the same bridge and not in the same IOMMU group. */
  async #resetReaches(folder: string, group: string | null): Promise<string[]> {
    const own = await realpath(this.#path(folder));
    const others = (await readdir(dirname(own))).filter(
      (name) => BDF.test(name) && name !== basename(own),
    );
    const reached: string[] = [];
    for (const name of others) {
      const theirs = await this.#linkName(join(this.#device(name), 'iommu_group'));
      if (theirs === null || theirs !== group) reached.push(name);
    }
    return reached;
  }

  async #daemon(processes: readonly Process[]): Promise<ObservedDaemon> {
    const process = processes.find(({ name }) => name === DAEMON.slice(0, NAME_CHARACTERS_MAX));
    const { statePath } = this.#parts.daemon;
    const booted = /^btime (\d+)$/m.exec(await this.#text('proc/stat'))?.[1];
    const state = await stat(this.#path(statePath)).catch(() => null);
    return {
      isRunning: process !== undefined,
      instance: process === undefined ? null : `${process.pid}:${process.started}`,
      hasState: state !== null && booted !== undefined && state.mtimeMs >= Number(booted) * 1000,
    };
  }

  async #processes(): Promise<Process[]> {
    const pids = (await this.#names('proc')).filter((name) => /^\d+$/.test(name));
    const processes: Process[] = [];
    for (const pid of pids.slice(0, PROCESSES_MAX)) {
      // One that ends meanwhile is none.
      const text = await this.#textOrNull(`proc/${pid}/stat`);
      const match = /^\d+ \((.*)\) (.*)$/s.exec(text ?? '');
      if (match === null) continue;
      const started = match[2]!.split(' ')[STARTED_FIELD] ?? '';
      const opens = await this.#opens(pid);
      processes.push({ pid: Number(pid), name: match[1]!, started, opens });
    }
    return processes;
  }

  async #opens(pid: string): Promise<string[]> {
    const folder = this.#path(`proc/${pid}/fd`);
    const names = await readdir(folder).catch(() => []);
    const links = await Promise.all(
      names.map((name) => readlink(join(folder, name)).catch(() => '')),
    );
    return links.filter((link) => link.startsWith('/dev/vfio/'));
  }

  #device(bdf: string): string {
    if (!BDF.test(bdf)) throw new FabricError('host-refused', `${bdf} is no PCI address`);
    return `sys/bus/pci/devices/${bdf}`;
  }

  #path(path: string): string {
    return join(this.#parts.root, path);
  }

  #text(path: string): Promise<string> {
    return readFile(this.#path(path), 'utf8');
  }

  #textOrNull(path: string): Promise<string | null> {
    return this.#text(path).catch(() => null);
  }

  #names(path: string): Promise<string[]> {
    return readdir(this.#path(path));
  }

  async #linkName(path: string): Promise<string | null> {
    const target = await readlink(this.#path(path)).catch(() => null);
    return target === null ? null : basename(target);
  }

  #write(what: string, path: string, text: string): Promise<void> {
    return this.#change(what, path, () => this.#parts.write(this.#path(path), text));
  }

  async #change(what: string, path: string, change: () => Promise<void>): Promise<void> {
    try {
      await change();
    } catch (cause) {
      const message = `${what}: ${path} cannot be written: ${(cause as Error).message}`;
      throw new FabricError('host-refused', message, { cause });
    }
  }

  async #run(program: string, args: readonly string[]): Promise<void> {
    try {
      await this.#parts.run(program, args);
    } catch (cause) {
      const message = `${program} ${args.join(' ')}: ${(cause as Error).message}`;
      throw new FabricError('host-refused', message, { cause });
    }
  }
}

interface Process {
  readonly pid: number;
  readonly name: string;
  /** Clock ticks since the boot: with the pid it is one process and no later one. */
  readonly started: string;
  /** VFIO's files among what it has open. */
  readonly opens: readonly string[];
}

/** The kernel cuts names of processes here (TASK_COMM_LEN). */
const NAME_CHARACTERS_MAX = 15;
/** `starttime`, field 22 of proc(5), counted behind the name. */
const STARTED_FIELD = 19;

/** A record of /dev/kmsg that names an Xid: `priority,sequence,time,flags;text`. */
function faultOf(record: string): ObservedFault[] {
  const match = XID.exec(record);
  const sequence = /^\d+,(\d+),/.exec(record)?.[1];
  if (match === null || sequence === undefined) return [];
  const number = Number(match[4]);
  const bdf = `${match[2]!.toLowerCase()}.${match[3] ?? '0'}`;
  const kind = match[1]!.toLowerCase() === 'sxid' ? 'sxid' : 'xid';
  const isGone = kind === 'xid' && number === OFF_THE_BUS;
  return [{ sequence: Number(sequence) + 1, kind: isGone ? 'off-the-bus' : kind, number, bdf }];
}
