import { readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { asItIs, NativeError, type Translate } from './errors.ts';
import {
  addressOf,
  type BoundFunctions,
  type NativeLibrary,
  OutCell,
  openNativeLibrary,
  type Signatures,
} from './library.ts';

const SIGNATURES = {
  nvrtcVersion: ['pointer', 'pointer'],
  nvrtcCreateProgram: ['pointer', 'pointer', 'text', 'i32', 'pointer', 'pointer'],
  nvrtcDestroyProgram: ['pointer'],
  nvrtcCompileProgram: ['pointer', 'i32', 'pointer'],
  nvrtcGetCUBINSize: ['pointer', 'pointer'],
  nvrtcGetCUBIN: ['pointer', 'pointer'],
  nvrtcGetProgramLogSize: ['pointer', 'pointer'],
  nvrtcGetProgramLog: ['pointer', 'pointer'],
} as const satisfies Signatures;

/** A translation unit: its source, and the headers it may include by name. */
export interface Program {
  readonly name: string;
  readonly source: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly options: readonly string[];
}

/** NVIDIA's run-time compiler. Needs no GPU. */
export class Nvrtc {
  /** `major.minor`. */
  readonly version: string;
  readonly path: string;
  readonly #functions: BoundFunctions<typeof SIGNATURES>;
  readonly #compileOnPool: ReturnType<NativeLibrary['bindAsync']>;
  readonly #translate: Translate;

  /** Throws, as all methods do, what `translate` makes of a NativeError. */
  constructor(path: string, translate = asItIs) {
    this.#translate = translate;
    try {
      preloadBuiltins(path);
      const library = openNativeLibrary(path);
      this.#functions = library.bind(SIGNATURES);
      const { nvrtcCompileProgram } = SIGNATURES;
      this.#compileOnPool = library.bindAsync('nvrtcCompileProgram', nvrtcCompileProgram);
    } catch (cause) {
      const message = `${path} is no usable NVRTC: ${String(cause)}`;
      throw translate(new NativeError('library-missing', message, { cause }));
    }
    this.path = path;
    const major = new OutCell();
    const minor = new OutCell();
    this.#check('nvrtcVersion', this.#functions.nvrtcVersion(major.bytes, minor.bytes));
    this.version = `${major.i32}.${minor.i32}`;
  }

  /** Machine code of a program. Throws `compile-failed` with the compiler's log. */
  compile(program: Program): Uint8Array {
    return this.#withProgram(program, (handle, options) => {
      const status = this.#functions.nvrtcCompileProgram(handle, ...options.arguments);
      return this.#result(program, handle, status);
    });
  }

  /** The same without blocking this thread: programs compile in parallel. */
  async compileOnPool(program: Program): Promise<Uint8Array> {
    return this.#withProgram(program, async (handle, options) => {
      const status = await this.#compileOnPool(handle, ...options.arguments);
      // Read after the await, so that the memory behind the pointers lives as long as the
      // compilation.
      options.keepAlive();
      return this.#result(program, handle, status);
    });
  }

  #withProgram<Result>(
    program: Program,
    use: (handle: bigint, options: TextArray) => Result,
  ): Result {
    const source = Buffer.from(`${program.source}\0`);
    const headers = new TextArray(Object.values(program.headers));
    const names = new TextArray(Object.keys(program.headers));
    const cell = new OutCell();
    const status = this.#functions.nvrtcCreateProgram(
      cell.bytes,
      source,
      program.name,
      headers.length,
      headers.pointers,
      names.pointers,
    );
    this.#check('nvrtcCreateProgram', status);
    const release = () => this.#functions.nvrtcDestroyProgram(cell.bytes);
    let result: Result;
    try {
      result = use(cell.pointer, new TextArray(program.options));
    } catch (error) {
      release();
      throw error;
    }
    if (result instanceof Promise) return result.finally(release) as Result;
    release();
    return result;
  }

  #result(program: Program, handle: bigint, status: number): Uint8Array {
    if (status !== 0) {
      const bytes = this.#readBytes('nvrtcGetProgramLogSize', 'nvrtcGetProgramLog', handle);
      const log = Buffer.from(bytes).toString('utf8').replace(/\0+$/, '');
      const message =
        `${program.name} did not compile (NVRTC ${this.version}, status ${status}, ` +
        `${program.options.join(' ')}):\n${log}`;
      throw this.#translate(new NativeError('compile-failed', message, { status }));
    }
    return this.#readBytes('nvrtcGetCUBINSize', 'nvrtcGetCUBIN', handle);
  }

  #readBytes(
    sizeOf: 'nvrtcGetCUBINSize' | 'nvrtcGetProgramLogSize',
    read: 'nvrtcGetCUBIN' | 'nvrtcGetProgramLog',
    handle: bigint,
  ): Uint8Array {
    const size = new OutCell();
    this.#check(sizeOf, this.#functions[sizeOf](handle, size.bytes));
    const bytes = new Uint8Array(size.size);
    this.#check(read, this.#functions[read](handle, bytes));
    return bytes;
  }

  #check(name: string, status: number): void {
    if (status === 0) return;
    const message = `${name} of ${this.path} returned ${status}`;
    throw this.#translate(new NativeError('compile-failed', message, { status }));
  }
}

/**
 * NVRTC opens its built-in headers' library by bare name when it compiles. In a wheel that lies in
 * no folder of the loader's, unless it is open already.
 */
function preloadBuiltins(path: string): void {
  const folder = dirname(path);
  const major = /\.so\.(\d+)/.exec(basename(path))?.[1] ?? '';
  const prefix = `libnvrtc-builtins.so.${major}`;
  for (const name of readdirSync(folder)) {
    if (name.startsWith(prefix)) openNativeLibrary(join(folder, name));
  }
}

/** Texts as C takes them: an array of pointers to zero-terminated bytes. */
class TextArray {
  readonly length: number;
  readonly pointers: BigUint64Array;
  readonly #texts: Buffer[];

  constructor(texts: readonly string[]) {
    this.#texts = texts.map((text) => Buffer.from(`${text}\0`));
    this.length = texts.length;
    this.pointers = BigUint64Array.from(this.#texts.map((text) => addressOf(text)));
  }

  get arguments(): [number, BigUint64Array] {
    return [this.length, this.pointers];
  }

  keepAlive(): number {
    return this.#texts.length;
  }
}
