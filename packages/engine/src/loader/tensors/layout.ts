import type { WeightTensor } from '../../models/weights.ts';

/** Where a tensor's values, or its scales, lie on the device: an arena and a range of it. */
export interface Placement {
  readonly tensor: WeightTensor;
  readonly part: 'values' | 'scales';
  readonly arena: number;
  readonly offsetBytes: number;
  readonly bytes: number;
}

export interface Layout {
  /** Bytes of each arena: a device buffer that holds whole tensors side by side. */
  readonly arenaBytes: readonly number[];
  /** In the order given, scales behind their values. */
  readonly placements: readonly Placement[];
}

const ALIGNMENT_BYTES = 256;
const SCALE_BYTES = 4;

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** Bytes of one value of `tensor` on a device with elements of `elementBytes`. */
export function valueBytes({ format }: WeightTensor, elementBytes: number): number {
  if (format === 'f32') return 4;
  if (format === 'int4') return 0.5;
  return format === 'element' ? elementBytes : 1;
}

function partsOf(tensor: WeightTensor, elementBytes: number): Pick<Placement, 'part' | 'bytes'>[] {
  const values = tensor.elements * valueBytes(tensor, elementBytes);
  const { scales } = tensor;
  return [
    { part: 'values', bytes: values },
    ...(scales === null
      ? []
      : [{ part: 'scales' as const, bytes: scales.rows * scales.columns * SCALE_BYTES }]),
  ];
}

/**
 * Packs tensors in the order given, each at a multiple of 256 bytes, into arenas of at most
 * `limitBytes`; what is larger gets an arena of its own. Few large arenas keep copies large: a
 * crossing costs a toll however small.
 */
export function layOut(
  tensors: readonly WeightTensor[],
  elementBytes: number,
  limitBytes: number,
): Layout {
  const arenaBytes: number[] = [];
  const placements: Placement[] = [];
  for (const tensor of tensors) {
    for (const { part, bytes } of partsOf(tensor, elementBytes)) {
      const current = arenaBytes.at(-1);
      if (current === undefined || current + align(bytes) > limitBytes) arenaBytes.push(0);
      const arena = arenaBytes.length - 1;
      const offsetBytes = arenaBytes[arena]!;
      placements.push({ tensor, part, arena, offsetBytes, bytes });
      arenaBytes[arena] = offsetBytes + align(bytes);
    }
  }
  return { arenaBytes, placements };
}

/** Device memory that the tensors take, in whatever order and arenas. */
export function weightBytes(tensors: readonly WeightTensor[], elementBytes: number): number {
  return tensors
    .flatMap((tensor) => partsOf(tensor, elementBytes))
    .reduce((total, { bytes }) => total + align(bytes), 0);
}
