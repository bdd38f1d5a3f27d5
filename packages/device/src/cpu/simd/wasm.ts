/** A memory that module instances work in. Other threads share it when it is posted to them. */
export interface WasmMemory {
  readonly buffer: SharedArrayBuffer;
}

interface WasmLimits {
  readonly shared: true;
  readonly initial: number;
  readonly maximum: number;
}

interface WasmInstance {
  readonly exports: Readonly<Record<string, unknown>>;
}

/**
 * What we use of WebAssembly's JavaScript API, for which neither the ES library nor Node's types
 * have names.
 */
interface WasmApi {
  readonly Memory: new (limits: WasmLimits) => WasmMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (
    module: object,
    imports: { readonly host: { readonly memory: WasmMemory } },
  ) => WasmInstance;
  validate(bytes: Uint8Array<ArrayBuffer>): boolean;
}

/** undefined where the process runs without a compiler (`--jitless`). */
export const wasm = (globalThis as unknown as { readonly WebAssembly?: WasmApi }).WebAssembly;
