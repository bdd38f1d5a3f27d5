import { type Slice, slice } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { type TreeLevel, treeLevels } from '../hash-tree.ts';
import { checkInt4 } from '../int4.ts';
import {
  type Activation,
  type ExpertGroups,
  elementMatrix,
  type KvGeometry,
  linearWorkspace,
  type Matrix,
  type OpArgs,
  type OpName,
  type PagedLines,
  routeWorkspace,
} from '../ops.ts';
import { checkPagedParts } from '../paged-parts.ts';
import { checkPlace } from '../placement.ts';

/** The steps that the compute workers know: the catalogue with its compound operations in parts. */
export interface PrimitiveArgs
  extends Omit<OpArgs, 'linear' | 'attention' | 'latent-attention' | 'route' | 'hash-tree'> {
  /** out = input over the root mean square of its line, times norm + normOffset. */
  'rms-norm': {
    readonly input: Slice;
    readonly norm: Slice;
    readonly normOffset: number;
    readonly epsilon: number;
    readonly out: Slice;
    readonly count: number;
    readonly width: number;
  };
  /** out = input * weight^T (+ bias) */
  matmul: Matrix & {
    readonly input: Slice;
    readonly bias: Slice | null;
    readonly out: Slice;
    readonly count: number;
    readonly inputs: number;
    readonly outputs: number;
  };
  /** out += input */
  add: { readonly input: Slice; readonly out: Slice; readonly elements: number };
  /** out[count, width] = activation(input[:, :width]) * input[:, width:] */
  'gate-mul': {
    readonly activation: Activation;
    readonly input: Slice;
    readonly out: Slice;
    readonly count: number;
    readonly width: number;
  };
  /** The experts of the largest logits (f32 [count, allExperts]), and the groups. */
  'choose-experts': ExpertGroups &
    Pick<
      OpArgs['route'],
      | 'choiceBias'
      | 'choiceGroups'
      | 'keptGroups'
      | 'logitScale'
      | 'expertScales'
      | 'weighing'
      | 'weightScale'
      | 'tokenRows'
      | 'weights'
      | 'shares'
    > & {
      readonly logits: Slice;
    };
  'rope-write-kv': KvGeometry &
    Pick<
      OpArgs['attention'],
      | 'qkv'
      | 'lineKv'
      | 'queryNorm'
      | 'keyNorm'
      | 'valueNorm'
      | 'normOffset'
      | 'epsilon'
      | 'rope'
      | 'rotaryDim'
      | 'count'
      | 'heads'
    >;
  attend: KvGeometry &
    Pick<
      OpArgs['attention'],
      'qkv' | 'lineKv' | 'sinks' | 'out' | 'count' | 'heads' | 'scale' | 'window'
    >;
  /** What of latent-attention is before its softmax: lines of pages, and queries turned. */
  'write-latents': Omit<OpArgs['latent-attention'], 'out' | 'scale'>;
  'attend-latents': PagedLines &
    Pick<
      OpArgs['latent-attention'],
      'queries' | 'out' | 'count' | 'heads' | 'rank' | 'rotaryDim' | 'scale'
    >;
  /** A level of a hash tree. */
  'hash-pieces': TreeLevel;
}

export type PrimitiveName = keyof PrimitiveArgs;

/** One step for the workers, with its name. */
export type Primitive = {
  readonly [Name in PrimitiveName]: { readonly op: Name; readonly args: PrimitiveArgs[Name] };
}[PrimitiveName];

/** An operation as the steps it consists of. Workers meet between two steps. */
export function primitivesOf<Name extends OpName>(name: Name, args: OpArgs[Name]): Primitive[] {
  if (name === 'linear') return partsOfLinear(args as OpArgs['linear']);
  if (name === 'attention') return partsOfAttention(args as OpArgs['attention']);
  if (name === 'latent-attention') return partsOfLatent(args as OpArgs['latent-attention']);
  if (name === 'route') return partsOfRoute(args as OpArgs['route']);
  if (name === 'hash-tree') {
    return treeLevels(args as OpArgs['hash-tree']).map((args) => ({ op: 'hash-pieces', args }));
  }
  if (name === 'place') checkPlace(args as OpArgs['place']);
  if (name === 'order-int4-codes') checkInt4(args as OpArgs['order-int4-codes']);
  if (name === 'join-int4-scales') checkInt4(args as OpArgs['join-int4-scales']);
  if (name === 'gather-pages') {
    const { out, ...parts } = args as OpArgs['gather-pages'];
    checkPagedParts(parts, out);
  }
  if (name === 'scatter-pages') {
    const { input, ...parts } = args as OpArgs['scatter-pages'];
    checkPagedParts(parts, input);
  }
  return [{ op: name, args } as unknown as Primitive];
}

const F32_BYTES = 4;

function partsOfLinear(all: OpArgs['linear']): Primitive[] {
  const { norm, normOffset, epsilon, activation, epilogue, outType, ...rest } = all;
  const { workspace, input, out, ...matrix } = rest;
  if (outType !== 'f32') {
    throw new DeviceError('unsupported', 'linear on the cpu device writes f32 only');
  }
  const { count, inputs, outputs } = matrix;
  const places = linearWorkspace({ ...matrix, epilogue, hasNorm: norm !== null }, F32_BYTES);
  const place = (offset: number, elements: number) => part(workspace, offset, elements);
  const parts: Primitive[] = [];
  let x = input;
  if (norm !== null) {
    x = place(places.normed, count * inputs);
    const args = { input, norm, normOffset, epsilon, out: x, count, width: inputs };
    parts.push({ op: 'rms-norm', args });
  }
  const product = epilogue === 'store' ? out : place(places.product, count * outputs);
  parts.push({ op: 'matmul', args: { ...matrix, input: x, out: product } });
  if (epilogue === 'add') {
    parts.push({ op: 'add', args: { input: product, out, elements: count * outputs } });
  } else if (epilogue === 'gate') {
    const args = { activation, input: product, out, count, width: outputs / 2 };
    parts.push({ op: 'gate-mul', args });
  }
  return parts;
}

function part(workspace: Slice, offsetBytes: number, elements: number): Slice {
  const bytes = elements * F32_BYTES;
  if (offsetBytes + bytes > workspace.bytes) {
    throw new DeviceError(
      'bad-argument',
      `a workspace of ${workspace.bytes} bytes is too small: ${offsetBytes + bytes} are needed`,
    );
  }
  return slice(workspace.buffer, workspace.offsetBytes + offsetBytes, bytes);
}

function partsOfAttention(all: OpArgs['attention']): Primitive[] {
  const { queryNorm, keyNorm, valueNorm, normOffset, epsilon, rope, rotaryDim, ...rest } = all;
  const { sinks, out, scale, window, phase, ...common } = rest;
  const turning = { queryNorm, keyNorm, valueNorm, normOffset, epsilon, rope, rotaryDim };
  return [
    { op: 'rope-write-kv', args: { ...common, ...turning } },
    { op: 'attend', args: { ...common, sinks, out, scale, window } },
  ];
}

function partsOfLatent(all: OpArgs['latent-attention']): Primitive[] {
  const { out, scale, ...writing } = all;
  const { projected, projectedStride, turnedFrom, latents, norm, epsilon, rope, ...rest } = writing;
  return [
    { op: 'write-latents', args: writing },
    { op: 'attend-latents', args: { ...rest, out, scale } },
  ];
}

function partsOfRoute(all: OpArgs['route']): Primitive[] {
  const { input, norm, normOffset, epsilon, normed, router, routerBias, ...rest } = all;
  const { width, workspace, ...choice } = rest;
  const { count, allExperts } = choice;
  const places = routeWorkspace(all, F32_BYTES);
  const logits = part(workspace, 0, places.linear / F32_BYTES);
  const sizes = { count, inputs: width, outputs: allExperts };
  const product = { ...elementMatrix(router), ...sizes, input: normed, bias: routerBias };
  return [
    { op: 'rms-norm', args: { input, norm, normOffset, epsilon, out: normed, count, width } },
    { op: 'matmul', args: { ...product, out: logits } },
    { op: 'choose-experts', args: { ...choice, logits } },
  ];
}
