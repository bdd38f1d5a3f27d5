import { posix } from 'node:path';
import { type Facts, known, type Observed, unknown } from '../facts.ts';
import { readBounded } from './read-bounded.ts';

type MachineFacts = Pick<
  Facts,
  'guest' | 'cpuFlags' | 'memlockBytes' | 'transparentHugepages' | 'swapBytes' | 'memoryBytes'
>;

/**
 * Reads CPU and memory as a process sees them: this one, or `pid`. `root` stands before /proc and
 * /sys, for tests.
 */
export function readMachine(options: { root?: string; pid?: number } = {}): MachineFacts {
  const { root = '', pid = 'self' } = options;
  const cpuFlags = readCpuFlags(root);
  return {
    cpuFlags,
    guest: readGuest(root, cpuFlags),
    memlockBytes: readMemlock(`${root}/proc/${pid}/limits`),
    transparentHugepages: readHugepages(`${root}/sys/kernel/mm/transparent_hugepage/enabled`),
    swapBytes: readMeminfo(root, 'SwapTotal'),
    memoryBytes: readMemory(root, pid),
  };
}

function readCpuFlags(root: string): Observed<ReadonlySet<string>> {
  const path = `${root}/proc/cpuinfo`;
  const reading = readBounded(path);
  if (!reading.ok) return unknown(reading.reason);
  // Arm calls them Features.
  const flags = /^(?:flags|Features)\s*:(.*)$/m.exec(reading.text)?.[1];
  if (flags === undefined) return unknown(`${path} lists no flags`);
  return known(new Set(flags.trim().split(/\s+/)), path);
}

/** The kernel sets tdx_guest; AMD's guests have a device to ask for reports. */
function readGuest(
  root: string,
  cpuFlags: Observed<ReadonlySet<string>>,
): Observed<'tdx' | 'sev-snp' | 'plain'> {
  if (!cpuFlags.known) return cpuFlags;
  if (cpuFlags.value.has('tdx_guest')) return known('tdx', '/proc/cpuinfo: tdx_guest');
  const device = `${root}/sys/class/misc/sev-guest/uevent`;
  if (readBounded(device).ok) return known('sev-snp', '/sys/class/misc/sev-guest');
  return known('plain', 'neither tdx_guest nor sev-guest');
}

function readMemlock(path: string): Observed<number> {
  const reading = readBounded(path);
  if (!reading.ok) return unknown(reading.reason);
  const soft = /^Max locked memory\s+(\d+|unlimited)/m.exec(reading.text)?.[1];
  if (soft === undefined) return unknown(`${path} has no locked memory limit`);
  return known(soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft), path);
}

function readHugepages(path: string): Observed<'always' | 'madvise' | 'never'> {
  const reading = readBounded(path);
  if (!reading.ok) return unknown(reading.reason);
  const chosen = /\[(always|madvise|never)\]/.exec(reading.text)?.[1];
  if (chosen === undefined) return unknown(`${path} has no known setting`);
  return known(chosen as 'always' | 'madvise' | 'never', path);
}

function readMeminfo(root: string, name: 'MemTotal' | 'SwapTotal'): Observed<number> {
  const path = `${root}/proc/meminfo`;
  const reading = readBounded(path);
  if (!reading.ok) return unknown(reading.reason);
  const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(reading.text)?.[1];
  if (kilobytes === undefined) return unknown(`${path} has no ${name}`);
  return known(Number(kilobytes) * 1024, `${path}: ${name}`);
}

/** The machine's memory, or the least limit of a control group on the way to the root. */
function readMemory(root: string, pid: number | 'self'): Observed<number> {
  const total = readMeminfo(root, 'MemTotal');
  const group = readBounded(`${root}/proc/${pid}/cgroup`);
  const path = group.ok ? /^0::(\/.*)$/m.exec(group.text)?.[1] : undefined;
  let least = total;
  for (let folder = path; folder !== undefined; folder = parent(folder)) {
    const file = posix.join(`${root}/sys/fs/cgroup`, folder, 'memory.max');
    const limit = readBounded(file);
    const bytes = limit.ok && /^\d+$/.test(limit.text.trim()) ? Number(limit.text) : undefined;
    if (bytes === undefined) continue;
    if (!least.known || bytes < least.value) least = known(bytes, file);
  }
  return least;
}

const parent = (folder: string) => (folder === '/' ? undefined : posix.dirname(folder));
