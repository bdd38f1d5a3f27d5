import type { DeviceBuffer, Slice } from '../device.ts';
import { isSlice, isSliceList } from '../device.ts';
import { DeviceError } from '../errors.ts';

/** A buffer of the same size on every rank. */
export class GroupBuffer implements DeviceBuffer {
  readonly id: number;
  readonly bytes: number;
  readonly label: string;
  /** One for each rank. */
  readonly parts: readonly DeviceBuffer[];

  constructor(id: number, bytes: number, label: string, parts: readonly DeviceBuffer[]) {
    this.id = id;
    this.bytes = bytes;
    this.label = label;
    this.parts = parts;
  }
}

/** What a rank has of a buffer. Throws DeviceError `bad-argument` for one of another device. */
export function partOf(buffer: DeviceBuffer, rank: number): DeviceBuffer {
  if (buffer instanceof GroupBuffer) return buffer.parts[rank]!;
  const message = `"${buffer.label}" is not allocated on all ranks of this device`;
  throw new DeviceError('bad-argument', message);
}

export function sliceOf(slice: Slice, rank: number): Slice {
  return { ...slice, buffer: partOf(slice.buffer, rank) };
}

/** An operation's arguments as they are for one rank. */
export function argsOf<Args extends object>(args: Args, rank: number): Args {
  const own = Object.entries(args).map(([key, value]) => {
    if (isSliceList(value)) return [key, value.map((each) => sliceOf(each, rank))];
    return [key, isSlice(value) ? sliceOf(value, rank) : value];
  });
  return Object.fromEntries(own) as Args;
}
