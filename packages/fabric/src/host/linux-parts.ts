import { execFile } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { FabricError } from '../errors.ts';
import type { ObservedVm } from './host.ts';
import type { DaemonPlaces, DriverView, LinuxParts } from './linux.ts';
import type { RunProgram } from './program.ts';

const PROGRAM_BYTES_MAX = 2 ** 20;
const KERNEL_RECORD_BYTES_MAX = 8192;
const KERNEL_RECORDS_MAX = 100_000;
const FAULTS_MAX = 4096;

const execute = promisify(execFile);

/** This machine, whose files are below `root`. */
export function linuxParts(
  root: string,
  daemon: DaemonPlaces,
  driverView: (bdf: string) => DriverView | null,
  vms: () => Promise<readonly ObservedVm[]>,
): LinuxParts {
  return {
    root,
    driverView,
    vms,
    kernelLog: () => readKernelLog(join(root, 'dev/kmsg')),
    async write(path, text) {
      // sysfs takes a value in one write, and its files are there already.
      const file = await open(path, constants.O_WRONLY | constants.O_TRUNC);
      try {
        await file.write(text);
      } finally {
        await file.close();
      }
    },
    async replace(path, text) {
      const fresh = `${path}.new`;
      const file = await open(fresh, 'w', 0o644);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(fresh, path);
    },
    async run(program, args) {
      await execute(program, [...args], { timeout: 120_000, maxBuffer: PROGRAM_BYTES_MAX });
    },
    daemon,
  };
}

/** What Fabric Manager on this machine says of itself. Throws FabricError 'fm-missing'. */
export async function daemonVersion(): Promise<string> {
  try {
    const { stdout } = await execute('nv-fabricmanager', ['--version'], { timeout: 10_000 });
    const version = /\d+\.\d+(\.\d+)?/.exec(stdout)?.[0];
    if (version !== undefined) return version;
  } catch (cause) {
    throw new FabricError('fm-missing', 'nv-fabricmanager --version cannot be run', { cause });
  }
  throw new FabricError('fm-missing', 'nv-fabricmanager --version names no version');
}

/** Runs one program of the operator's: its verb as argument, JSON in, JSON out. */
export function programRunner(program: string): RunProgram {
  return async (verb, input) => {
    const options = { timeout: 60_000, maxBuffer: PROGRAM_BYTES_MAX };
    const running = execute(program, [verb], options);
    // One that ends without reading is judged by its status.
    running.child.stdin?.on('error', () => undefined);
    running.child.stdin?.end(JSON.stringify(input));
    return (await running).stdout;
  };
}

/** The kernel's records of this boot that name an Xid, as many as it still has. */
function readKernelLog(path: string): string[] {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return [];
  }
  const record = Buffer.alloc(KERNEL_RECORD_BYTES_MAX);
  const lines: string[] = [];
  try {
    for (let count = 0; count < KERNEL_RECORDS_MAX && lines.length < FAULTS_MAX; count += 1) {
      const line = readRecord(fd, record);
      if (line === null) break;
      if (/NVRM: S?Xid/.test(line)) lines.push(line);
    }
  } finally {
    closeSync(fd);
  }
  return lines;
}

/** One record; '' for one that was overwritten meanwhile, null after the last. */
function readRecord(fd: number, record: Buffer): string | null {
  try {
    return record.toString('utf8', 0, readSync(fd, record, 0, record.length, null));
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPIPE' ? '' : null;
  }
}
