import type { Nvrtc, Program } from '@bridgekeeper/native';
import { CUDA, type Driver } from '@bridgekeeper/native';
import type { WantedKernel } from '../launch/launcher.ts';
import { type KernelCache, kernelKey } from './kernel-cache.ts';
import {
  KERNEL_UNITS,
  type KernelDefines,
  type KernelName,
  type KernelUnit,
  kernelProgram,
} from './kernel-source.ts';

const NO_DEFINES: KernelDefines = {};
/** Percent of the on-chip memory that is shared, where kernels use it at all. */
const ALL_SHARED = 100;
/**
 * Units that are the same for every model. Those of attention are compiled for a head size at its
 * first use.
 */
const COMMON_UNITS: readonly KernelUnit[] = ['rows', 'layers', 'sampling', 'place', 'digest'];
const UNIT_OF: ReadonlyMap<KernelName, KernelUnit> = new Map(
  Object.entries(KERNEL_UNITS).flatMap(([unit, names]) =>
    names.map((name) => [name, unit as KernelUnit] as const),
  ),
);

/**
 * The kernels of one device: compiled when first wanted, kept on disk, loaded into the current
 * context.
 */
export class Kernels {
  readonly #driver: Driver;
  readonly #nvrtc: Nvrtc;
  readonly #cache: KernelCache;
  readonly #programOf: (unit: KernelUnit, defines: KernelDefines) => Program;
  /** Compiled ahead and not loaded yet, by their keys. */
  readonly #compiled = new Map<string, Uint8Array>();
  readonly #modules = new Map<string, bigint>();
  readonly #functions = new Map<string, bigint>();
  /** Dynamic shared memory that a function may use, where it was asked for. */
  readonly #sharedBytes = new Map<bigint, number>();

  /** `defines` are fixed in every unit. */
  constructor(
    driver: Driver,
    nvrtc: Nvrtc,
    cache: KernelCache,
    architecture: string,
    defines: KernelDefines = NO_DEFINES,
  ) {
    this.#driver = driver;
    this.#nvrtc = nvrtc;
    this.#cache = cache;
    this.#programOf = (unit, own) => kernelProgram(unit, architecture, { ...defines, ...own });
  }

  /** Compiles in parallel what every model needs, where it is not on disk yet. */
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
    await Promise.all(
      programs.map(async (program) => {
        const key = kernelKey(program, this.#nvrtc.version);
        if (this.#compiled.has(key) || this.#cache.read(key) !== null) return;
        const code = await this.#nvrtc.compileOnPool(program);
        // Not every cache can be written.
        this.#compiled.set(key, code);
        this.#cache.write(key, code);
      }),
    );
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
    const program = this.#programOf(unit, defines);
    const key = kernelKey(program, this.#nvrtc.version);
    let code = this.#compiled.get(key) ?? this.#cache.read(key);
    this.#compiled.delete(key);
    if (code === null) {
      code = this.#nvrtc.compile(program);
      this.#cache.write(key, code);
    }
    const module = this.#driver.read('cuModuleLoadData', code).pointer;
    this.#modules.set(id, module);
    return module;
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
