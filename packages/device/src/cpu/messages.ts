import type { MessagePort } from 'node:worker_threads';
import type { Crossing, CrossingRecord } from '@bridgekeeper/bridge';
import type { Slice } from '../device.ts';
import type { DeviceErrorCode } from '../errors.ts';
import type { LawStart } from '../law/imposed-law.ts';
import type { PrimitiveArgs, PrimitiveName } from './primitives.ts';
import type { CopyMark, WorkMark } from './shared-control.ts';
import type { WasmMemory } from './simd/wasm.ts';

/** A slice as it crosses threads. */
export interface SliceRef {
  readonly id: number;
  readonly offsetBytes: number;
  readonly bytes: number;
}

/** Arguments of a step as they cross threads: slices by their buffer's id. */
export type OpRefs<Name extends PrimitiveName> = {
  readonly [Key in keyof PrimitiveArgs[Name]]: RefOf<PrimitiveArgs[Name][Key]>;
};
type RefOf<Value> = Value extends Slice
  ? SliceRef
  : Value extends readonly Slice[]
    ? readonly SliceRef[]
    : Value;

/**
 * Where a buffer's bytes are: at the start of `shared`, which `wasm` is where SIMD can work on it,
 * too.
 */
export interface BufferStorage {
  readonly bytes: number;
  readonly shared: SharedArrayBuffer;
  readonly wasm: WasmMemory | null;
}

export interface OpItem {
  readonly op: PrimitiveName;
  readonly args: OpRefs<PrimitiveName>;
}

/**
 * One thing that the compute workers do in its turn: an operation, a graph, or waiting for copies.
 */
export type WorkItem =
  | OpItem
  | { readonly graph: number }
  | { readonly copies: readonly CopyMark[] };

/** From the launching thread to every compute worker, in order. */
export type ComputeMessage =
  | { readonly kind: 'buffer'; readonly id: number; readonly storage: BufferStorage }
  | { readonly kind: 'free'; readonly id: number }
  | { readonly kind: 'graph'; readonly id: number; readonly items: readonly OpItem[] }
  | { readonly kind: 'work'; readonly ticket: number; readonly items: readonly WorkItem[] };

export interface ComputeTask {
  readonly control: SharedArrayBuffer;
  readonly port: MessagePort;
  readonly part: number;
  readonly parts: number;
}

/** A copy for a lane's thread to make. */
export interface CopyOrder {
  /** Its number among the copies of the lane's slot. */
  readonly number: number;
  readonly crossing: Crossing;
  readonly device: SharedArrayBuffer;
  readonly deviceOffsetBytes: number;
  readonly host: SharedArrayBuffer;
  readonly hostOffsetBytes: number;
  readonly hostIsFresh: boolean;
  /** What is queued before it on its stream. */
  readonly after: WorkMark | null;
  /**
   * When the launching thread issued it, where that thread is the issuer; else the lane's thread
   * is.
   */
  readonly issuedNs: number | null;
}

export interface LaneTask extends LawStart {
  readonly port: MessagePort;
  readonly id: string;
  readonly slot: number;
  readonly control: SharedArrayBuffer;
  readonly clockOrigin: readonly [seconds: number, nanoseconds: number];
}

export type LaneMessage = CopyOrder | 'close';

/** A lane's answer to a copy order. */
export type CopyAnswer =
  | { readonly number: number; readonly record: CrossingRecord }
  | { readonly number: number; readonly code: DeviceErrorCode; readonly message: string };
