import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LT } from '@bridgekeeper/native';
import { replaceFile } from '../kernels/kernel-cache.ts';
import type { MatmulAlgorithm } from './matmul.ts';

/** What decides which algorithms there are, what their bytes mean and how fast they run. */
export interface MatmulMachine {
  /** As the driver names the GPU. */
  readonly gpu: string;
  /** Its compute capability: `sm_90a`. */
  readonly architecture: string;
  readonly multiprocessors: number;
  /** 1000 * major + 10 * minor of the newest CUDA that the driver supports. */
  readonly driverCuda: number;
  readonly cublasLt: number;
  readonly workspaceBytes: number;
}

/** The file's whole text. `digest` is over the machine and the choices as they stand in it. */
interface ChoicesFile {
  readonly machine: MatmulMachine;
  /** By the shape's name, in base64. */
  readonly choices: Readonly<Record<string, string>>;
  readonly digest: string;
}

/**
 * The algorithms found fastest on one machine, by the names of their shapes, in one JSON file. A
 * file that is damaged or of another machine counts as absent, and is replaced. Writers that race
 * lose each other's latest choices at most, which are then made again.
 */
export class MatmulChoices {
  readonly path: string;
  readonly #machine: MatmulMachine;

  constructor(folder: string, machine: MatmulMachine) {
    const name = machine.gpu.replace(/[^A-Za-z0-9]+/g, '-');
    this.path = join(folder, `matmul-${name}-${digestOf(machine).slice(0, 12)}.json`);
    this.#machine = machine;
  }

  read(): Map<string, MatmulAlgorithm> {
    const choices = new Map<string, MatmulAlgorithm>();
    for (const [key, text] of Object.entries(this.#readFile()?.choices ?? {})) {
      const algorithm = Buffer.from(String(text), 'base64');
      if (algorithm.length === LT.ALGORITHM_BYTES) choices.set(key, algorithm);
    }
    return choices;
  }

  /** Adds to the file, over what it has for the same shapes. */
  add(added: ReadonlyMap<string, MatmulAlgorithm>): void {
    const merged = [...new Map([...this.read(), ...added])].sort(([a], [b]) => (a < b ? -1 : 1));
    const choices = Object.fromEntries(
      merged.map(([key, algorithm]) => [key, algorithm.toString('base64')]),
    );
    const machine = this.#machine;
    const file: ChoicesFile = { machine, choices, digest: digestOf(machine, choices) };
    replaceFile(this.path, Buffer.from(`${JSON.stringify(file, null, 1)}\n`));
  }

  #readFile(): ChoicesFile | null {
    let file: Partial<ChoicesFile> | null;
    try {
      file = JSON.parse(readFileSync(this.path, 'utf8'));
    } catch {
      return null;
    }
    const { machine, choices, digest } = file ?? {};
    const isWhole = digest === digestOf(machine, choices);
    const isOurs = JSON.stringify(machine) === JSON.stringify(this.#machine);
    return isWhole && isOurs ? (file as ChoicesFile) : null;
  }
}

function digestOf(...values: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(values)).digest('hex');
}
