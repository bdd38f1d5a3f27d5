import {
  type Checkpoint,
  type CheckpointTensor,
  storedTypeOf,
} from '../../checkpoint/checkpoint.ts';
import { ModelError } from '../../models/errors.ts';
import { type ScaleSource, stackScales } from '../../models/scales.ts';
import type { WeightTensor } from '../../models/weights.ts';
import { convertElements, storedBytes } from './convert.ts';

/** What scales are called: in both spellings they are what codes are multiplied by. */
const SUFFIXES = ['weight_scale_inv', 'weight_scale'] as const;

/**
 * The tensor with a module's scales. Throws ModelError `missing-tensor`, `inconsistent`,
 * `wrong-shape` or `unsupported`.
 */
export function scaleTensor(
  checkpoint: Checkpoint,
  { module, shapes }: ScaleSource,
): CheckpointTensor {
  const [tensor, second] = SUFFIXES.flatMap((suffix) => {
    const found = checkpoint.tensors.get(`${module}.${suffix}`);
    return found === undefined ? [] : [found];
  });
  if (tensor === undefined) {
    const wanted = SUFFIXES.map((suffix) => `${module}.${suffix}`).join(' or ');
    const message = `the checkpoint has no tensor ${wanted}, which FP8 weights need`;
    throw new ModelError('missing-tensor', message);
  }
  if (second !== undefined) {
    const message = `the checkpoint has both ${tensor.name} and ${second.name}: one must be it`;
    throw new ModelError('inconsistent', message);
  }
  const found = tensor.shape.join(', ');
  const accepted = shapes.map((shape) => shape.join(', '));
  if (!accepted.includes(found)) {
    const wanted = accepted.map((shape) => `[${shape}]`).join(' or ');
    const message = `tensor ${tensor.name} is [${found}]; config.json implies ${wanted}`;
    throw new ModelError('wrong-shape', message);
  }
  storedTypeOf(tensor);
  return tensor;
}

/**
 * Reads the scales of every FP8 matrix of `wanted`, as linear operations take them. Throws
 * ModelError `malformed` for scales that are negative, infinite or NaN.
 */
export async function readScales(
  checkpoint: Checkpoint,
  wanted: readonly WeightTensor[],
): Promise<ReadonlyMap<WeightTensor, Uint8Array>> {
  const all = new Map<WeightTensor, Uint8Array>();
  for (const planned of wanted) {
    if (planned.scales === null || planned.format !== 'fp8-e4m3') continue;
    const grids: Float32Array[] = [];
    for (const source of planned.scales.sources) {
      grids.push(await readGrid(checkpoint, scaleTensor(checkpoint, source)));
    }
    all.set(planned, new Uint8Array(stackScales(planned.scales, grids).buffer));
  }
  return all;
}

async function readGrid(checkpoint: Checkpoint, tensor: CheckpointTensor): Promise<Float32Array> {
  const type = storedTypeOf(tensor);
  const raw = new Uint8Array(tensor.bytes);
  await checkpoint.read(tensor.file, tensor.offsetBytes, raw);
  const grid = new Float32Array(tensor.bytes / storedBytes(type));
  convertElements(raw, type, new Uint8Array(grid.buffer), 'f32', grid.length);
  const at = grid.findIndex((scale) => !(scale >= 0 && scale < Number.POSITIVE_INFINITY));
  if (at >= 0) {
    const rule = 'scales are finite numbers from 0';
    throw new ModelError('malformed', `tensor ${tensor.name} has ${grid[at]} at ${at}; ${rule}`);
  }
  return grid;
}
