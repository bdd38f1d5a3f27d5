import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
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
  readonly cublasLt: number;
  readonly workspaceBytes: number;
}

type Algorithms = ReadonlyMap<string, MatmulAlgorithm>;

/** The file's whole text. `digest` is over the machine and the choices as they stand in it. */
interface ChoicesFile {
  readonly machine: MatmulMachine;
  /** By the shape's name, in base64. */
  readonly choices: Readonly<Record<string, string>>;
  readonly digest: string;
}

/** Choices that ship with the product: made on such machines with common models. */
const SHIPPED_FOLDER = fileURLToPath(new URL('../../../algorithms/', import.meta.url));

/**
 * The algorithms found fastest on one machine, by the names of their shapes, in one JSON file. A
 * file that is damaged or of another machine counts as absent, and is replaced. Writers that race
 * lose each other's latest choices at most, which are then made again.
 */
export class MatmulChoices {
  readonly path: string;
  readonly #isKept: boolean;
  readonly #machine: MatmulMachine;

  /** `folder` null: there is none, and nothing is kept. */
  constructor(folder: string | null, machine: MatmulMachine) {
    this.path = join(folder ?? '', fileNameOf(machine));
    this.#isKept = folder !== null;
    this.#machine = machine;
  }

  /** What was chosen on this machine, and where nothing was, on another of its kind. */
  read(shippedFolder = SHIPPED_FOLDER): Algorithms {
    const shipped = this.#readFile(join(shippedFolder, fileNameOf(this.#machine)));
    return new Map([...shipped, ...(this.#isKept ? this.#readFile(this.path) : [])]);
  }

  /** Adds to the file, over what it has for the same shapes. */
  add(added: Algorithms): void {
    if (!this.#isKept) return;
    const merged = [...new Map([...this.#readFile(this.path), ...added])];
    const choices = Object.fromEntries(
      merged
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, algorithm]) => [key, algorithm.toString('base64')]),
    );
    const machine = this.#machine;
    const file: ChoicesFile = { machine, choices, digest: digestOf(machine, choices) };
    replaceFile(this.path, Buffer.from(`${JSON.stringify(file, null, 1)}\n`));
  }

  #readFile(path: string): Algorithms {
    let file: Partial<ChoicesFile> | null;
    try {
      file = JSON.parse(readFileSync(path, 'utf8'));
    } catch {
      return new Map();
    }
    const { machine, choices = {}, digest } = file ?? {};
    const isWhole = digest === digestOf(machine, choices);
    const isOurs = JSON.stringify(machine) === JSON.stringify(this.#machine);
    if (!isWhole || !isOurs) return new Map();
    const algorithms = Object.entries(choices).map(
      ([key, text]) => [key, Buffer.from(String(text), 'base64')] as const,
    );
    return new Map(algorithms.filter(([, { length }]) => length === LT.ALGORITHM_BYTES));
  }
}

/** Readable, and another for every difference. */
function fileNameOf(machine: MatmulMachine): string {
  const name = machine.gpu.replace(/[^A-Za-z0-9]+/g, '-');
  return `matmul-${name}-${digestOf(machine).slice(0, 12)}.json`;
}

function digestOf(...values: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(values)).digest('hex');
}
