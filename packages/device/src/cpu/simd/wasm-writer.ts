/**
 * A small assembler for WebAssembly: what our modules need of the binary format, under its own
 * names. Instructions are bytes, so code is put together by concatenation; operands come before
 * their operator. Source: WebAssembly Core Specification 2.0, chapter 5 (binary format), and the
 * threads proposal (shared memories).
 */

/** Instructions, ready to be put in a function's body. */
export type Code = readonly number[];

export type ValueType = 'i32' | 'v128';

const VALUE_TYPES: Readonly<Record<ValueType, number>> = { i32: 0x7f, v128: 0x7b };
const MAGIC_AND_VERSION = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
const SECTIONS = { type: 1, import: 2, function: 3, export: 7, code: 10 } as const;
const EMPTY_BLOCK = 0x40;
const FUNCTION_TYPE = 0x60;
const FUNCTION_EXPORT = 0x00;
const MEMORY_IMPORT = 0x02;
/** Limits: a maximum is given, and the memory is shared. */
const SHARED_LIMITS = 0x03;
const LOOP = 0x03;
const IF = 0x04;
const BR_IF = 0x0d;
const END = 0x0b;
const LOCAL_GET = 0x20;
const LOCAL_SET = 0x21;

/** What 32-bit addresses reach. */
export const WASM_PAGES_MAX = 65_536;
export const WASM_PAGE_BYTES = 65_536;

/** Unsigned LEB128. */
function unsigned(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return bytes;
}

/** Signed LEB128 of a 32-bit integer. */
function signed(value: number): number[] {
  const bytes: number[] = [];
  let rest = value | 0;
  for (; rest < -0x40 || rest >= 0x40; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  bytes.push(rest & 0x7f);
  return bytes;
}

function vector(items: readonly Code[]): number[] {
  return [...unsigned(items.length), ...items.flat()];
}

function sized(bytes: Code): number[] {
  return [...unsigned(bytes.length), ...bytes];
}

function text(value: string): number[] {
  return sized([...new TextEncoder().encode(value)]);
}

function section(id: number, items: readonly Code[]): number[] {
  return [id, ...sized(vector(items))];
}

const simd = (opcode: number) => [0xfd, ...unsigned(opcode)];

/** An operator of two operands. */
const binary =
  (opcode: Code) =>
  (left: Code, right: Code): Code => [...left, ...right, ...opcode];

/** Where an access lies: aligned to 2^2 bytes, whatever its width. */
const at4 = (offsetBytes: number) => [2, ...unsigned(offsetBytes)];

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  add: binary([0x6a]),
  sub: binary([0x6b]),
  mul: binary([0x6c]),
  and: binary([0x71]),
  shl: binary([0x74]),
  geU: binary([0x4f]),
};

export const f32 = {
  add: binary([0x92]),
  store: (address: Code, offsetBytes: number, value: Code): Code => [
    ...address,
    ...value,
    0x38,
    ...at4(offsetBytes),
  ],
};

export const v128 = {
  zero: [...simd(0x0c), ...new Array<number>(16).fill(0)],
  load: (address: Code, offsetBytes: number): Code => [
    ...address,
    ...simd(0x00),
    ...at4(offsetBytes),
  ],
  and: binary(simd(0x4e)),
};

export const i32x4 = {
  splat: (value: Code): Code => [...value, ...simd(0x11)],
  replaceLane: (lane: number, lanes: Code, value: Code): Code => [
    ...lanes,
    ...value,
    ...simd(0x1c),
    lane,
  ],
  gtU: binary(simd(0x3c)),
};

export const f32x4 = {
  add: binary(simd(0xe4)),
  mul: binary(simd(0xe6)),
  extractLane: (lane: number, lanes: Code): Code => [...lanes, ...simd(0x1f), lane],
};

/** Runs `body` unless `condition` is 0. */
export function when(condition: Code, body: Code): Code {
  return [...condition, IF, EMPTY_BLOCK, ...body, END];
}

/** Runs `body`, and again for as long as `condition` holds after it. */
export function repeat(body: Code, condition: Code): Code {
  return [LOOP, EMPTY_BLOCK, ...body, ...condition, BR_IF, 0, END];
}

/** A parameter or a variable of a function. */
export interface Local {
  readonly get: Code;
  set(value: Code): Code;
}

/** Collects the locals and the body of one function, which returns nothing. */
export class FunctionWriter {
  readonly name: string;
  readonly #params: ValueType[] = [];
  readonly #locals: ValueType[] = [];
  readonly #body: number[] = [];

  constructor(name: string) {
    this.name = name;
  }

  /** The next parameter. All parameters come before the first variable. */
  param(type: ValueType): Local {
    this.#params.push(type);
    return localAt(this.#params.length - 1);
  }

  variable(type: ValueType): Local {
    this.#locals.push(type);
    return localAt(this.#params.length + this.#locals.length - 1);
  }

  add(...code: readonly Code[]): void {
    for (const part of code) for (const byte of part) this.#body.push(byte);
  }

  get type(): Code {
    return [FUNCTION_TYPE, ...vector(this.#params.map((type) => [VALUE_TYPES[type]])), 0];
  }

  get code(): Code {
    const locals = this.#locals.map((type) => [1, VALUE_TYPES[type]]);
    return sized([...vector(locals), ...this.#body, END]);
  }
}

function localAt(index: number): Local {
  return {
    get: [LOCAL_GET, ...unsigned(index)],
    set: (value) => [...value, LOCAL_SET, ...unsigned(index)],
  };
}

/**
 * A module that works in a shared memory of up to 4 GiB, imported as `host.memory`, and exports
 * `functions`.
 */
export function writeModule(functions: readonly FunctionWriter[]): Uint8Array<ArrayBuffer> {
  const memory = [MEMORY_IMPORT, SHARED_LIMITS, ...unsigned(1), ...unsigned(WASM_PAGES_MAX)];
  const types = functions.map(({ type }) => type);
  const exported = functions.map(({ name }, n) => [...text(name), FUNCTION_EXPORT, ...unsigned(n)]);
  return Uint8Array.from([
    ...MAGIC_AND_VERSION,
    ...section(SECTIONS.type, types),
    ...section(SECTIONS.import, [[...text('host'), ...text('memory'), ...memory]]),
    ...section(
      SECTIONS.function,
      functions.map((_, n) => unsigned(n)),
    ),
    ...section(SECTIONS.export, exported),
    ...section(
      SECTIONS.code,
      functions.map(({ code }) => code),
    ),
  ]);
}
