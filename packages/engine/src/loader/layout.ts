import type { PlannedTensor } from '../models/weights.ts';

/** Where a tensor lies on the device: an arena and a range of it. */
export interface Placement {
  readonly tensor: PlannedTensor;
  readonly arena: number;
  readonly offsetBytes: number;
  readonly bytes: number;
}

export interface Layout {
  /** Bytes of each arena: a device buffer that holds whole tensors side by side. */
  readonly arenaBytes: readonly number[];
  /** In the order given. */
  readonly placements: readonly Placement[];
}

const ALIGNMENT_BYTES = 256;

function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/**
 * Packs tensors in the order given, each at a multiple of 256 bytes, into arenas of at most
 * `limitBytes`; a tensor that is larger gets an arena of its own. Few large arenas keep copies
 * large: a crossing costs a toll however small.
 */
export function layOut(
  tensors: readonly PlannedTensor[],
  elementBytes: number,
  limitBytes: number,
): Layout {
  const arenaBytes: number[] = [];
  const placements: Placement[] = [];
  for (const tensor of tensors) {
    const bytes = tensor.elements * elementBytes;
    const current = arenaBytes.at(-1);
    if (current === undefined || current + align(bytes) > limitBytes) arenaBytes.push(0);
    const arena = arenaBytes.length - 1;
    const offsetBytes = arenaBytes[arena]!;
    placements.push({ tensor, arena, offsetBytes, bytes });
    arenaBytes[arena] = offsetBytes + align(bytes);
  }
  return { arenaBytes, placements };
}
