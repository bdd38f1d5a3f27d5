import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { fileURLToPath } from 'node:url';

/** How many lines of code a module has once compiled, and how many of them have run. */
export interface ModuleCoverage {
  readonly module: string;
  readonly lines: number;
  readonly linesReached: number;
}

interface CoveredRange {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

/**
 * V8's own account of what runs in this thread, by blocks. To be started before the modules in
 * question are loaded: what V8 compiled earlier is counted by whole functions.
 */
export class LineCoverage {
  readonly #session = new Session();

  async start(): Promise<void> {
    this.#session.connect();
    await this.#session.post('Profiler.enable');
    const blocks = { callCount: false, detailed: true };
    await this.#session.post('Profiler.startPreciseCoverage', blocks);
  }

  /** Of modules by their URLs without `.js`, under `folder`; those never loaded have no lines. */
  async take(folder: URL, modules: readonly string[]): Promise<ModuleCoverage[]> {
    const { result } = await this.#session.post('Profiler.takePreciseCoverage');
    this.#session.disconnect();
    return modules.map((module) => {
      const url = new URL(`${module}.js`, folder);
      const script = result.find((one) => one.url === url.href);
      if (script === undefined) return { module, lines: 0, linesReached: 0 };
      const ranges = script.functions.flatMap((one) => one.ranges);
      return { module, ...countLines(readFileSync(fileURLToPath(url), 'utf8'), ranges) };
    });
  }
}

/** Comments, imports, and brackets that only close something. */
const NO_CODE = /^(\/\/|\/\*|\*|import\b|[)}\];,]*$)/;

/** `ranges`: outer before inner, as V8 gives them. A line is reached if its first character is. */
function countLines(
  source: string,
  ranges: readonly CoveredRange[],
): Pick<ModuleCoverage, 'lines' | 'linesReached'> {
  const isReached = new Uint8Array(source.length);
  for (const { startOffset, endOffset, count } of ranges) {
    isReached.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  }
  let [lines, linesReached, at] = [0, 0, 0];
  for (const line of source.split('\n')) {
    const code = line.trim();
    if (!NO_CODE.test(code)) {
      lines += 1;
      linesReached += isReached[at + line.indexOf(code)]!;
    }
    at += line.length + 1;
  }
  return { lines, linesReached };
}
