import type { Int4Order } from '@bridgekeeper/device';
import { ModelError } from './errors.ts';
import { INT4_NAMES, type Int4Quantization } from './quantization-int4.ts';

/** A tensor of the checkpoint that is placed as it is, and ordered on the device. */
export interface StoredWords {
  readonly name: string;
  readonly shape: readonly number[];
}

/** A linear layer in 4 bits, as a checkpoint has it. */
export interface Int4Module {
  readonly module: string;
  readonly order: Int4Order;
  readonly zeroOffset: 0 | 1;
  /** The first of the stacked outputs that are the module's, and how many. */
  readonly firstOutput: number;
  readonly outputs: number;
  readonly inputs: number;
  readonly groups: number;
  /** I32, eight codes to each. */
  readonly codes: StoredWords;
  /** BF16 or F16. */
  readonly scales: StoredWords;
  /** I32, eight to each; null: they are 8. */
  readonly zeros: StoredWords | null;
  /** What may lie beside them, and must say nothing else. */
  readonly groupsOfInputs: string | null;
  readonly shape: string | null;
}

interface Part {
  readonly name: string;
  readonly outputs: number;
  readonly part?: { readonly from: number; readonly of: number };
}

/**
 * Stacked modules under the names that the format has for their tensors. Throws ModelError
 * `unsupported` for sizes that fill no words or groups, and for parts of a module.
 */
export function int4Modules(
  { order, group, hasZeros, zeroOffset }: Int4Quantization,
  parts: readonly Part[],
  inputs: number,
): Int4Module[] {
  let firstOutput = 0;
  return parts.map(({ name: module, outputs, part }) => {
    const refuse = (what: string): never => {
      const message = `${module} in ${INT4_NAMES[order]} ${what}`;
      throw new ModelError('unsupported', message);
    };
    const size = group ?? inputs;
    if (part !== undefined && part.of !== outputs) refuse('is taken apart here: take it in FP8');
    if (inputs % size !== 0) refuse(`has ${inputs} inputs, which groups of ${size} do not divide`);
    if (inputs % 32 !== 0) refuse(`has ${inputs} inputs, which must be a multiple of 32`);
    if (outputs % 8 !== 0) refuse(`has ${outputs} outputs, which must be a multiple of 8`);
    const groups = inputs / size;
    const stored = (suffix: string, ...shape: number[]) => ({ name: `${module}.${suffix}`, shape });
    const sizes = { module, order, zeroOffset, firstOutput, outputs, inputs, groups };
    firstOutput += outputs;
    if (order === 'rows') {
      const zeros = stored('weight_zero_point', outputs / 8, groups);
      return {
        ...sizes,
        codes: stored('weight_packed', outputs, inputs / 8),
        scales: stored('weight_scale', outputs, groups),
        zeros: hasZeros ? zeros : null,
        groupsOfInputs: `${module}.weight_g_idx`,
        shape: `${module}.weight_shape`,
      };
    }
    const isAwq = order === 'awq';
    return {
      ...sizes,
      codes: isAwq
        ? stored('qweight', inputs, outputs / 8)
        : stored('qweight', inputs / 8, outputs),
      scales: stored('scales', groups, outputs),
      zeros: stored('qzeros', groups, outputs / 8),
      groupsOfInputs: isAwq ? null : `${module}.g_idx`,
      shape: null,
    };
  });
}
