import type { LoadedWeights } from './load.ts';

/** Tensors that are known, and why they change nothing here. */
const KNOWN: readonly (readonly [suffix: RegExp, why: string])[] = [
  [
    /^(?:vision_tower|multi_modal_projector|model\.(?:vision_tower|multi_modal_projector))\./,
    'of images, which this engine does not take',
  ],
  [/\.(?:input_scale|activation_scale)$/, 'scales of activations, which are not quantised'],
  [/\.(?:[kqv]_scale|[kqv]_proj\.output_scale|attn\.[kqv]_scale)$/, 'scales of KV, which has none'],
];

/** What of the checkpoint was left aside, for the log. */
export function loadNotes({ unusedTensors, unmappedTensors }: LoadedWeights): string[] {
  const whyOf = (name: string) =>
    KNOWN.find(([suffix]) => suffix.test(name))?.[1] ?? 'not part of the architecture';
  const groups = new Map<string, string[]>();
  for (const name of unusedTensors) {
    const why = whyOf(name);
    groups.set(why, [...(groups.get(why) ?? []), name]);
  }
  const notes = [...groups].map(([why, names]) => note(names, `not used: ${why}`));
  const names = unmappedTensors.map(({ name, file }) => `${name} in ${file}`);
  return names.length === 0 ? notes : [...notes, note(names, 'not what the index maps: ignored')];
}

function note(names: readonly string[], what: string): string {
  const count = names.length === 1 ? '1 tensor is' : `${names.length} tensors are`;
  return `${count} ${what} (${names[0]}${names.length > 1 ? ', ...' : ''})`;
}
