import { type Device, type DeviceBuffer, type Slice, slice } from '@bridgekeeper/device';
import type { Checkpoint, CheckpointTensor } from '../../checkpoint/checkpoint.ts';
import { ModelError } from '../../models/errors.ts';
import type { Int4Module } from '../../models/int4-modules.ts';
import { INT4_NAMES } from '../../models/quantization-int4.ts';
import type { WeightTensor } from '../../models/weights.ts';
import type { Layout, Placement } from './layout.ts';

// What a checkpoint has in 4 bits crosses and is placed as it is stored, codes where the matrix
// ends up and its scales and zero points where their words do, which take more room; then each
// module is ordered on the device by way of a copy.

/** A module's codes, or its words, on the device. */
interface Int4Region {
  readonly module: Int4Module;
  readonly part: Placement['part'];
  readonly arena: number;
  readonly offsetBytes: number;
  readonly bytes: number;
  /** The stored tensors in it, by where they start in the arena. */
  readonly stored: readonly { readonly name: string; readonly offsetBytes: number }[];
}

const WORD_BYTES = 4;
const SCALE_BYTES = 2;

/** The regions of one placement, by module. */
export function int4Regions({ tensor, part, arena, offsetBytes }: Placement): Int4Region[] {
  return (tensor.int4 ?? []).map((module) => {
    const { firstOutput, outputs, inputs, groups, codes, scales, zeros } = module;
    const rowBytes = part === 'values' ? inputs / 2 : groups * WORD_BYTES;
    const start = offsetBytes + firstOutput * rowBytes;
    const zerosAt = start + outputs * groups * SCALE_BYTES;
    const beside = [
      { name: scales.name, offsetBytes: start },
      ...(zeros === null ? [] : [{ name: zeros.name, offsetBytes: zerosAt }]),
    ];
    return {
      module,
      part,
      arena,
      offsetBytes: start,
      bytes: outputs * rowBytes,
      stored: part === 'values' ? [{ name: codes.name, offsetBytes: start }] : beside,
    };
  });
}

/** Orders what was placed as it is stored. Everything that was queued is done when it resolves. */
export async function orderInt4(
  device: Device,
  checkpoint: Checkpoint,
  layout: Layout,
  buffers: readonly DeviceBuffer[],
): Promise<void> {
  const regions = layout.placements.flatMap(int4Regions);
  if (regions.length === 0) return;
  const most = regions.reduce((bytes, region) => Math.max(bytes, region.bytes), 0);
  const copy = device.allocate(most, 'weights in 4 bits, as stored');
  try {
    const stream = device.createStream('weights in 4 bits');
    for (const region of regions) {
      const { module, part, arena, offsetBytes, bytes } = region;
      const out = slice(buffers[arena]!, offsetBytes, bytes);
      const input = slice(copy, 0, bytes);
      if (part === 'values') {
        // Rows are in their order already.
        if (module.order === 'rows') continue;
        const { order, inputs, outputs } = module;
        stream.launch('copy', { input: out, out: input, bytes });
        stream.launch('order-int4-codes', { input, out, order, inputs, outputs });
      } else {
        stream.launch('copy', { input: out, out: input, bytes });
        stream.launch('join-int4-scales', {
          ...scalesIn(region, input),
          scaleType: scaleTypeOf(checkpoint, module),
          zeroOffset: module.zeroOffset,
          order: module.order,
          out,
          outputs: module.outputs,
          groups: module.groups,
        });
      }
    }
    await stream.synchronize();
  } finally {
    device.free(copy);
  }
}

/** Where scales and zero points are in a copy of their region. */
function scalesIn({ module, offsetBytes, stored }: Int4Region, copy: Slice) {
  const count = module.outputs * module.groups;
  const [scales, zeros] = stored.map(({ offsetBytes: at }) => at - offsetBytes);
  return {
    scales: slice(copy.buffer, scales!, count * SCALE_BYTES),
    zeros: zeros === undefined ? null : slice(copy.buffer, zeros, count / 2),
  };
}

const SCALE_TYPES: Readonly<Record<string, 'bf16' | 'f16'>> = { BF16: 'bf16', F16: 'f16' };

function scaleTypeOf(checkpoint: Checkpoint, { scales }: Int4Module): 'bf16' | 'f16' {
  return SCALE_TYPES[checkpoint.tensors.get(scales.name)!.dtype]!;
}

/**
 * Checks the tensors of an int4 matrix beside its codes, and returns the names of those that are
 * used. Throws ModelError `missing-tensor`, `wrong-shape`, `unsupported` or `inconsistent`.
 */
export function checkInt4(checkpoint: Checkpoint, { int4 = [] }: WeightTensor): readonly string[] {
  return int4.flatMap((module) => {
    const { scales, zeros, groupsOfInputs, shape } = module;
    const scale = tensorOf(checkpoint, module, scales);
    if (!Object.hasOwn(SCALE_TYPES, scale.dtype)) {
      const supported = Object.keys(SCALE_TYPES).join(', ');
      const message = `tensor ${scale.name} is stored as ${scale.dtype}; supported: ${supported}`;
      throw new ModelError('unsupported', message);
    }
    if (zeros !== null) {
      const { name, dtype } = tensorOf(checkpoint, module, zeros);
      if (dtype !== 'I32') {
        const message = `tensor ${name} is stored as ${dtype}; supported: I32, eight to each`;
        throw new ModelError('unsupported', message);
      }
    }
    const beside = [groupsOfInputs, shape].filter((name) => name !== null);
    return [scales.name, ...(zeros === null ? [] : [zeros.name]), ...beside];
  });
}

function tensorOf(
  checkpoint: Checkpoint,
  { order }: Int4Module,
  { name, shape }: Int4Module['scales'],
): CheckpointTensor {
  const tensor = checkpoint.tensors.get(name);
  if (tensor === undefined) {
    const who = `weights in ${INT4_NAMES[order]}`;
    const message = `the checkpoint has no tensor ${name}, which ${who} need`;
    throw new ModelError('missing-tensor', message);
  }
  const [found, wanted] = [tensor.shape.join(', '), shape.join(', ')];
  if (found === wanted) return tensor;
  const message = `tensor ${name} is [${found}]; config.json implies [${wanted}]`;
  throw new ModelError('wrong-shape', message);
}

/** Of models with experts there are tens of thousands, and each is a read or two. */
const MODULES_AT_ONCE = 64;

/**
 * Reads what lies beside int4 matrices: inputs must be in groups as they come, and matrices of the
 * shapes that config.json implies. Throws ModelError `inconsistent` or `unsupported`.
 */
export async function checkInt4Beside(
  checkpoint: Checkpoint,
  tensors: readonly WeightTensor[],
): Promise<void> {
  const modules = tensors.flatMap(({ int4 = [] }) => int4);
  const check = async ({ inputs, outputs, groups, groupsOfInputs, shape }: Int4Module) => {
    const size = inputs / groups;
    await expectNumbers(checkpoint, groupsOfInputs, inputs, (i) => Math.floor(i / size));
    await expectNumbers(checkpoint, shape, 2, (i) => [outputs, inputs][i]!);
  };
  for (let first = 0; first < modules.length; first += MODULES_AT_ONCE) {
    const some = modules.slice(first, first + MODULES_AT_ONCE);
    for (const checked of await Promise.allSettled(some.map(check))) {
      if (checked.status === 'rejected') throw checked.reason;
    }
  }
}

/** Of a tensor that may be missing. */
async function expectNumbers(
  checkpoint: Checkpoint,
  name: string | null,
  count: number,
  valueAt: (index: number) => number,
): Promise<void> {
  const tensor = name === null ? undefined : checkpoint.tensors.get(name);
  if (tensor === undefined) return;
  const { dtype, bytes, file, offsetBytes } = tensor;
  const width = dtype === 'I64' ? 8 : 4;
  if ((dtype !== 'I64' && dtype !== 'I32') || bytes !== count * width) {
    const found = `${bytes} bytes of ${dtype}`;
    const message = `tensor ${name} is ${found}; ${count} of I32 or I64 are wanted`;
    throw new ModelError('inconsistent', message);
  }
  const raw = new Uint8Array(bytes);
  await checkpoint.read(file, offsetBytes, raw);
  const view = new DataView(raw.buffer);
  for (let i = 0; i < count; i++) {
    const value = width === 8 ? Number(view.getBigInt64(i * 8, true)) : view.getInt32(i * 4, true);
    if (value === valueAt(i)) continue;
    const message = `tensor ${name} has ${value} at ${i}; supported: ${valueAt(i)}, in order`;
    throw new ModelError('unsupported', message);
  }
}
