import {
  type Checkpoint,
  type CheckpointTensor,
  storedTypeOf,
} from '../../checkpoint/checkpoint.ts';
import { INDEX_NAME } from '../../checkpoint/shard-index.ts';
import { ModelError } from '../../models/errors.ts';
import type { WeightTensor } from '../../models/weights.ts';
import { checkInt4 } from './int4.ts';
import { scaleTensor } from './scales.ts';

/** What the headers call the types of what is not plain numbers, and what people do. */
const DTYPES = {
  'fp8-e4m3': { dtype: 'F8_E4M3', words: 'FP8' },
  int4: { dtype: 'I32', words: 'integers of 4 bits' },
  mxfp4: { dtype: 'U8', words: 'MXFP4' },
  e8m0: { dtype: 'U8', words: 'MXFP4' },
} as const;

function missingTensor(checkpoint: Checkpoint, name: string): ModelError {
  const stray = checkpoint.unmapped.find((candidate) => candidate.name === name);
  const hint = stray && ` (${stray.file} has one that ${INDEX_NAME} does not map there)`;
  const message = `the checkpoint has no tensor ${name}, which the architecture needs${hint ?? ''}`;
  return new ModelError('missing-tensor', message);
}

/** Config and headers must say the same of what is quantised. */
function checkFormat(tensor: CheckpointTensor, { format }: WeightTensor): void {
  if (format !== 'element' && format !== 'f32') {
    const { dtype, words } = DTYPES[format];
    if (tensor.dtype === dtype) return;
    throw contradiction(tensor, `has it in ${words}, which is ${dtype}`);
  }
  if (tensor.dtype === DTYPES['fp8-e4m3'].dtype) {
    throw contradiction(tensor, 'does not have it in FP8');
  }
  storedTypeOf(tensor);
}

function contradiction({ name, dtype }: CheckpointTensor, claim: string): ModelError {
  const says = `config.json's "quantization_config" ${claim}`;
  return new ModelError('inconsistent', `tensor ${name} is stored as ${dtype}, but ${says}`);
}

/**
 * Checks that `checkpoint` fills `wanted`: every source there, of the planned shape, in a supported
 * type, and with scales where it is packed. Returns the names of tensors that are not wanted.
 * Throws ModelError `missing-tensor`, `wrong-shape`, `inconsistent` or `unsupported`.
 */
export function checkTensors(
  checkpoint: Checkpoint,
  wanted: readonly WeightTensor[],
): readonly string[] {
  const used = new Set<string>();
  for (const planned of wanted) {
    for (const source of planned.sources) {
      const tensor = checkpoint.tensors.get(source.name);
      if (tensor === undefined) throw missingTensor(checkpoint, source.name);
      const found = tensor.shape.join(', ');
      const wanted = source.shape.join(', ');
      if (found !== wanted) {
        const message = `tensor ${source.name} is [${found}]; config.json implies [${wanted}]`;
        throw new ModelError('wrong-shape', message);
      }
      checkFormat(tensor, planned);
      used.add(source.name);
    }
    for (const name of checkInt4(checkpoint, planned)) used.add(name);
    for (const source of planned.scales?.sources ?? []) {
      used.add(scaleTensor(checkpoint, source).name);
    }
  }
  return [...checkpoint.tensors.keys()].filter((name) => !used.has(name));
}
