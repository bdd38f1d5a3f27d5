import koffi from 'koffi';

/**
 * The C types our signatures use. Pointers are BigInt addresses, or views of memory that JavaScript
 * owns.
 */
const KOFFI_TYPES = {
  i32: 'int32_t',
  u32: 'uint32_t',
  i64: 'int64_t',
  u64: 'uint64_t',
  pointer: 'void *',
  text: 'str',
} as const;
export type NativeType = keyof typeof KOFFI_TYPES;
export type NativeArgument = number | bigint | string | ArrayBufferView | null;

/** Functions of a C library by name, each returning a 32-bit status. */
export type Signatures = Readonly<Record<string, readonly NativeType[]>>;
export type BoundFunctions<Table extends Signatures> = {
  readonly [Name in keyof Table]: (...args: NativeArgument[]) => number;
};

export interface NativeLibrary {
  readonly path: string;
  /** Throws when the library does not export one of the names. */
  bind<Table extends Signatures>(table: Table): BoundFunctions<Table>;
  /**
   * The same function run on a pool thread; resolves to its status. Views among the arguments must
   * live until then.
   */
  bindAsync(
    name: string,
    types: readonly NativeType[],
  ): (...args: NativeArgument[]) => Promise<number>;
}

const RTLD_NOW = 0x2;
const RTLD_NODELETE = 0x1000;

/**
 * koffi unloads a library with the thread, and at last the process, that opened it. Those of GPUs
 * have threads of their own, which go on and would run into nothing.
 */
function keepLoaded(path: string): void {
  const open = koffi.load(null).func('dlopen', 'void *', ['str', 'int32_t']);
  open(path, RTLD_NOW | RTLD_NODELETE);
}

/**
 * Opens a shared library by path or by a name that the loader finds; it stays until the process has
 * ended. Throws with the loader's message.
 */
export function openNativeLibrary(path: string): NativeLibrary {
  const library = koffi.load(path);
  keepLoaded(path);
  const typesOf = (types: readonly NativeType[]) => types.map((type) => KOFFI_TYPES[type]);
  return {
    path,
    bind: <Table extends Signatures>(table: Table) =>
      Object.fromEntries(
        Object.entries(table).map(([name, types]) => [
          name,
          library.func(name, 'int32_t', typesOf(types)),
        ]),
      ) as unknown as BoundFunctions<Table>,
    bindAsync: (name, types) => {
      const bound = library.func(name, 'int32_t', typesOf(types));
      return (...args) =>
        new Promise((resolve, reject) => {
          bound.async(...args, (error: unknown, status: number) => {
            if (error) reject(error);
            else resolve(status);
          });
        });
    },
  };
}

/** Where a view's first byte lies. Valid while the view's memory lives; V8 does not move it. */
export function addressOf(view: ArrayBufferView): bigint {
  return koffi.address(view);
}

/** Native memory as bytes, without a copy. Must not be touched after the memory is freed. */
export function viewNative(address: bigint, bytes: number): Uint8Array {
  return new Uint8Array(koffi.view(address, bytes));
}

/** Reads the zero-terminated text at an address; empty for a null pointer. */
export function readNativeText(address: bigint): string {
  return address === 0n ? '' : (koffi.decode(address, 'char', -1) as string);
}

/** Room for one result that a C function writes through a pointer. */
export class OutCell {
  readonly bytes = Buffer.alloc(8);

  get pointer(): bigint {
    return this.bytes.readBigUInt64LE(0);
  }

  get i32(): number {
    return this.bytes.readInt32LE(0);
  }

  /** Exact below 2^53. */
  get size(): number {
    return Number(this.bytes.readBigUInt64LE(0));
  }
}
