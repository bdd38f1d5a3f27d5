import type { Nvrtc, Program } from '@bridgekeeper/native';
import { CUDA, type Driver } from '@bridgekeeper/native';
import { type KernelCache, kernelKey } from './kernel-cache.ts';
import type { KernelLibrary } from './kernel-library.ts';
import {
  KERNEL_UNITS,
  type KernelDefines,
  type KernelName,
  type KernelUnit,
  kernelProgram,
  type WantedKernel,
} from './kernel-source.ts';

const NO_CACHE =
  'the folder for compiled kernels and timed algorithms does not answer: they are made anew at ' +
  'each start (XDG_CACHE_HOME names another)';
const NO_DEFINES: KernelDefines = {};
/** Percent of the on-chip memory that is shared, where kernels use it at all. */
const ALL_SHARED = 100;
/**
 * Units that are the same for every model. Those of attention are compiled for a head size at its
 * first use.
 */
const COMMON_UNITS: readonly KernelUnit[] = [
  'rows',
  'layers',
  'sampling',
  'grammar',
  'pages',
  'place',
  'digest',
];
const UNIT_OF: ReadonlyMap<KernelName, KernelUnit> = new Map(
  Object.entries(KERNEL_UNITS).flatMap(([unit, names]) =>
    names.map((name) => [name, unit as KernelUnit] as const),
  ),
);

/** Where machine code comes from: packed with the product, kept on disk, or compiled now. */
export interface KernelCode {
  readonly library: KernelLibrary;
  readonly cache: KernelCache;
  /** Throws DeviceError `library-missing` where there is no compiler. */
  readonly compiler: () => Nvrtc;
}

/** The kernels of one device: found or compiled when wanted, loaded into the current context. */
export class Kernels {
  readonly #driver: Driver;
  readonly #code: KernelCode;
  readonly #architecture: string;
  readonly #programOf: (unit: KernelUnit, defines: KernelDefines) => Program;
  /** Compiled ahead and not loaded yet, by their keys. */
  readonly #compiled = new Map<string, Uint8Array>();
  readonly #modules = new Map<string, bigint>();
  readonly #functions = new Map<string, bigint>();
  /** Dynamic shared memory that a function may use, where it was asked for. */
  readonly #sharedBytes = new Map<bigint, number>();
  readonly #loaded = { packed: 0, translated: 0, kept: 0, compiled: 0 };

  /** `defines` are fixed in every unit. */
  constructor(
    driver: Driver,
    code: KernelCode,
    architecture: string,
    defines: KernelDefines = NO_DEFINES,
  ) {
    this.#driver = driver;
    this.#code = code;
    this.#architecture = architecture;
    this.#programOf = (unit, own) => kernelProgram(unit, architecture, { ...defines, ...own });
  }

  /** Where the code of what is loaded came from, for people. */
  get notes(): readonly string[] {
    const { packed, translated, kept, compiled } = this.#loaded;
    const { library, cache } = this.#code;
    const parts = [
      [packed, `were compiled when this was packed (${library.compiler})`],
      [translated, `were packed for older GPUs and translated by the driver`],
      [kept, 'were compiled by an earlier start'],
      [compiled, 'were compiled by this start'],
    ] as const;
    const told = parts.filter(([count]) => count > 0).map(([count, how]) => `${count} ${how}`);
    return [
      ...(told.length === 0 ? [] : [`kernels: ${told.join(', ')}`]),
      ...(cache.folder === null ? [NO_CACHE] : []),
      ...library.refused.map((path) => `${path} is not what was packed: it was not used`),
    ];
  }

  /** Compiles in parallel what every model needs, where it is not there yet. */
  async prepare(): Promise<void> {
    await this.#compile(COMMON_UNITS.map((unit) => this.#programOf(unit, NO_DEFINES)));
  }

  /** The same for kernels that will be wanted. Throws DeviceError `compile-failed`. */
  async compileAhead(wanted: readonly WantedKernel[]): Promise<void> {
    const programs = new Map<string, Program>();
    for (const { name, defines = NO_DEFINES } of wanted) {
      const unit = UNIT_OF.get(name)!;
      const id = unit + variantOf(defines);
      if (this.#modules.has(id) || programs.has(id)) continue;
      programs.set(id, this.#programOf(unit, defines));
    }
    await this.#compile([...programs.values()]);
  }

  async #compile(programs: readonly Program[]): Promise<void> {
    const { library, cache } = this.#code;
    const absent = programs.filter((each) => library.read(each, this.#architecture) === null);
    if (absent.length === 0) return;
    const nvrtc = this.#compilerFor(absent);
    if (nvrtc === null) return;
    await Promise.all(
      absent.map(async (program) => {
        const key = kernelKey(program, nvrtc.version);
        if (this.#compiled.has(key) || cache.read(key) !== null) return;
        const code = await nvrtc.compileOnPool(program);
        // Not every cache can be written.
        this.#compiled.set(key, code);
        cache.write(key, code);
      }),
    );
  }

  /**
   * Null where there is no compiler and the driver can translate all of `programs`. Throws
   * DeviceError `library-missing` where it cannot.
   */
  #compilerFor(programs: readonly Program[]): Nvrtc | null {
    const { library, compiler } = this.#code;
    try {
      return compiler();
    } catch (error) {
      const isPortable = (program: Program) =>
        library.readPortable(program, this.#architecture) !== null;
      if (programs.every(isPortable)) return null;
      throw error;
    }
  }

  /**
   * The handle of a kernel, compiled and loaded if need be. `defines` are those its unit is written
   * for; `sharedBytes` is the dynamic shared memory of the launch.
   */
  get(name: KernelName, defines: KernelDefines = NO_DEFINES, sharedBytes = 0): bigint {
    const variant = variantOf(defines);
    const handle = this.#functions.get(name + variant) ?? this.#load(name, defines, variant);
    // Without asking, 48 KiB are allowed, of which the kernel's own declarations take a part.
    if (sharedBytes > (this.#sharedBytes.get(handle) ?? 0)) {
      this.#driver.call(
        'cuFuncSetAttribute',
        handle,
        CUDA.FUNCTION_MAX_DYNAMIC_SHARED,
        sharedBytes,
      );
      this.#sharedBytes.set(handle, sharedBytes);
    }
    return handle;
  }

  #load(name: KernelName, defines: KernelDefines, variant: string): bigint {
    const unit = UNIT_OF.get(name)!;
    const handle = this.#driver.besideCapture(() => {
      const module = this.#module(unit, defines, unit + variant);
      const handle = this.#driver.read('cuModuleGetFunction', module, name).pointer;
      // A multiprocessor changes how it splits its memory only when it is empty: kernels that
      // overlap must agree.
      this.#driver.call('cuFuncSetAttribute', handle, CUDA.FUNCTION_SHARED_CARVEOUT, ALL_SHARED);
      return handle;
    });
    this.#functions.set(name + variant, handle);
    return handle;
  }

  #module(unit: KernelUnit, defines: KernelDefines, id: string): bigint {
    const known = this.#modules.get(id);
    if (known !== undefined) return known;
    const code = this.#codeOf(this.#programOf(unit, defines));
    const module = this.#driver.read('cuModuleLoadData', code).pointer;
    this.#modules.set(id, module);
    return module;
  }

  #codeOf(program: Program): Uint8Array {
    const { library, cache } = this.#code;
    const packed = library.read(program, this.#architecture);
    if (packed !== null) {
      this.#loaded.packed += 1;
      return packed;
    }
    const nvrtc = this.#compilerFor([program]);
    if (nvrtc === null) {
      this.#loaded.translated += 1;
      return library.readPortable(program, this.#architecture)!;
    }
    const key = kernelKey(program, nvrtc.version);
    const fresh = this.#compiled.get(key);
    this.#compiled.delete(key);
    const kept = fresh === undefined ? cache.read(key) : null;
    if (kept !== null) {
      this.#loaded.kept += 1;
      return kept;
    }
    this.#loaded.compiled += 1;
    if (fresh !== undefined) return fresh;
    const code = nvrtc.compile(program);
    cache.write(key, code);
    return code;
  }

  close(): void {
    for (const module of this.#modules.values()) this.#driver.release('cuModuleUnload', module);
    this.#modules.clear();
    this.#functions.clear();
    this.#sharedBytes.clear();
  }
}

function variantOf(defines: KernelDefines): string {
  return defines === NO_DEFINES ? '' : JSON.stringify(defines);
}
