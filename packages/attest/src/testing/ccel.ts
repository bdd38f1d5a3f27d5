import { type Bytes, concatBytes, utf8 } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';

/** An event of a boot log: RTMR0 is index 1. */
export interface TestBootEvent {
  readonly index: number;
  readonly type: number;
  /** Its digest is made of it. */
  readonly data: string;
}

export const BOOT_EVENTS: readonly TestBootEvent[] = [
  { index: 1, type: 0x8000_000b, data: 'firmware' },
  { index: 1, type: 4, data: '\0\0\0\0' },
  { index: 2, type: 0x8000_0003, data: 'boot loader' },
  { index: 1, type: 3, data: 'a note, which is not measured' },
  { index: 3, type: 0x0d, data: 'kernel and its command line' },
];

/** The log in TCG's crypto agile form, with SHA-384 and, if wanted, SHA-256 before it. */
export async function makeCcel(
  events: readonly TestBootEvent[] = BOOT_EVENTS,
  { filling = 0xff, isDouble = false } = {},
): Promise<Bytes> {
  const algorithms = [...(isDouble ? [[0x0b, 32]] : []), [0x0c, 48]] as [number, number][];
  const header = concatBytes(
    utf8('Spec ID Event03\0'),
    Uint8Array.of(0, 0, 0, 0, 0, 2, 0, 2),
    u32(algorithms.length),
    ...algorithms.map((pair) => concatBytes(...pair.map(u16))),
    Uint8Array.of(0),
  );
  const written = await Promise.all(
    events.map(async ({ index, type, data }) => {
      const digests = await Promise.all(
        algorithms.map(async ([id]) => {
          const hash = id === 0x0b ? 'SHA-256' : 'SHA-384';
          return concatBytes(u16(id), await digest(hash, utf8(data)));
        }),
      );
      const body = utf8(data);
      return concatBytes(
        u32(index),
        u32(type),
        u32(digests.length),
        ...digests,
        u32(body.length),
        body,
      );
    }),
  );
  return concatBytes(
    u32(1),
    u32(3),
    new Uint8Array(20),
    u32(header.length),
    header,
    ...written,
    new Uint8Array(64).fill(filling),
  );
}

/** The registers that events lead to. */
export async function bootRegisters(
  events: readonly TestBootEvent[] = BOOT_EVENTS,
): Promise<Bytes[]> {
  const registers: Bytes[] = [0, 1, 2, 3].map(() => new Uint8Array(48));
  for (const { index, type, data } of events) {
    if (type === 3) continue;
    const measured = await digest('SHA-384', utf8(data));
    registers[index - 1] = await digest('SHA-384', concatBytes(registers[index - 1]!, measured));
  }
  return registers;
}

const u16 = (value: number): Bytes => Uint8Array.of(value & 0xff, value >> 8);

function u32(value: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
