import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { HostFacts } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import { type Guest, type GuestSpec, settingsOf, type Vmm } from './vmm.ts';

/** How a process of an image is started: by the host's own catalogue. */
export interface ImageProgram {
  readonly program: string;
  readonly arguments: readonly string[];
}

export interface ProcessVmmOptions {
  readonly folder: string;
  readonly facts: HostFacts;
  readonly images: Readonly<Record<string, ImageProgram>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** How much of a log is read for the address and for the last words. */
const LOG_BYTES = 65_536;

/**
 * Guests that are processes of this machine, on GPUs that are pretended: the same replicas, agent
 * and control as with virtual machines, and no protection from anybody. Processes outlive the
 * agent; a folder for each says which process it is, so that the next agent finds it.
 */
export class ProcessVmm implements Vmm {
  readonly #options: ProcessVmmOptions;
  readonly #children = new Map<string, ChildProcess>();

  constructor(options: ProcessVmmOptions) {
    this.#options = options;
    mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  }

  async facts(): Promise<HostFacts> {
    return this.#options.facts;
  }

  async list(): Promise<readonly Guest[]> {
    return readdirSync(this.#options.folder).map((replica) => this.#look(replica));
  }

  async create(spec: GuestSpec): Promise<void> {
    const { images, environment } = this.#options;
    const image = Object.hasOwn(images, spec.image) ? images[spec.image]! : null;
    const place = this.#place(spec.replica);
    if (existsSync(place)) return;
    mkdirSync(place, { mode: 0o700 });
    if (image === null) {
      const names = Object.keys(images).join(', ');
      writeFileSync(join(place, 'failed'), `no image is called ${spec.image}; there are ${names}`);
      return;
    }
    const log = openSync(join(place, 'log'), 'a', 0o600);
    const child = spawn(
      image.program,
      [...image.arguments, '--max-num-seqs', String(spec.inFlightMax), ...named(spec.models)],
      {
        detached: true,
        stdio: ['ignore', log, log],
        cwd: place,
        // Not among the arguments, which every user of the machine can list.
        env: { ...environment, ...settingsOf(spec) },
      },
    );
    child.on('error', (error) => {
      writeFileSync(join(place, 'failed'), `it cannot be started: ${error.message}`);
    });
    child.unref();
    this.#children.set(spec.replica, child);
    if (child.pid === undefined) return;
    const process = { pid: child.pid, started: startOf(child.pid) };
    writeFileSync(join(place, 'process'), JSON.stringify(process));
  }

  async remove(replica: string): Promise<void> {
    const place = this.#place(replica);
    if (!existsSync(place)) return;
    const running = this.#running(place);
    if (running === null) {
      this.#children.delete(replica);
      rmSync(place, { recursive: true, force: true });
      return;
    }
    // First as a person would; who does not listen to that is ended.
    const isAgain = existsSync(join(place, 'stopping'));
    writeFileSync(join(place, 'stopping'), '');
    try {
      process.kill(running, isAgain ? 'SIGKILL' : 'SIGTERM');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw refused(replica, error);
    }
  }

  async giveKey(replica: string, sealedKey: string): Promise<void> {
    const place = this.#place(replica);
    if (existsSync(place)) writeFileSync(join(place, 'sealed.key'), sealedKey, { mode: 0o600 });
  }

  #place(replica: string): string {
    if (!/^rep_[0-9a-z]{26}$/.test(replica)) {
      throw new ControlError('vmm-refused', 'no replica is called that');
    }
    return join(this.#options.folder, replica);
  }

  #look(replica: string): Guest {
    const place = join(this.#options.folder, replica);
    const failed = join(place, 'failed');
    if (existsSync(failed)) {
      return { replica, state: 'failed', progress: readFileSync(failed, 'utf8'), address: null };
    }
    const log = existsSync(join(place, 'log')) ? readFileSync(join(place, 'log'), 'utf8') : '';
    const isRunning = this.#running(place) !== null;
    if (isRunning && existsSync(join(place, 'stopping'))) {
      return { replica, state: 'stopping', progress: 'stopping', address: null };
    }
    if (!isRunning) {
      const progress = `its process ended: ${log.trimEnd().split('\n').at(-1) ?? ''}`;
      return { replica, state: 'failed', progress: progress.slice(0, 500), address: null };
    }
    const address = /https?:\/\/127\.0\.0\.1:\d+/.exec(log.slice(0, LOG_BYTES))?.[0] ?? null;
    const state = address === null ? 'booting' : 'running';
    return { replica, state, progress: state, address };
  }

  /** Its process id, if that is still the process that was started. */
  #running(place: string): number | null {
    const path = join(place, 'process');
    if (!existsSync(path)) return null;
    const { pid, started } = JSON.parse(readFileSync(path, 'utf8')) as {
      pid: number;
      started: string | null;
    };
    const now = startOf(pid);
    return now !== null && now === started ? pid : null;
  }
}

function named(models: readonly string[]): string[] {
  return models.flatMap((model) => ['--served-model-name', model]);
}

/** When a process was started, in ticks since boot; null: there is none, or it has ended. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name in parentheses may have blanks.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

function refused(replica: string, cause: unknown): ControlError {
  return new ControlError('vmm-refused', `${replica}: ${(cause as Error).message}`, { cause });
}
