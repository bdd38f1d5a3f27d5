import type { LoadedWeights } from './load.ts';

/** Tensors that are known, and why they change nothing here. */
const KNOWN: readonly (readonly [suffix: RegExp, why: string])[] = [
  [
    /^(?:model\.)?(?:vision_tower|multi_modal_projector|embed_vision)\./,
    'of images, which this engine does not take',
  ],
  [/^(?:model\.)?(?:audio_tower|embed_audio)\./, 'of sound, which this engine does not take'],
  [/\.(?:input_scale|activation_scale)$/, 'scales of activations, which are not quantised'],
  [/\.(?:[kqv]_scale|[kqv]_proj\.output_scale|attn\.[kqv]_scale)$/, 'scales of KV, which has none'],
];

/** What of the checkpoint was left aside, for the log. */
export function loadNotes({ weights, unusedTensors, unmappedTensors }: LoadedWeights): string[] {
  const layers = weights.layers.length;
  const whyOf = (name: string) => {
    if (isBehindLayers(name, layers)) return 'of layers that predict tokens further ahead';
    return KNOWN.find(([suffix]) => suffix.test(name))?.[1] ?? 'not part of the architecture';
  };
  const groups = new Map<string, string[]>();
  for (const name of unusedTensors) {
    const why = whyOf(name);
    groups.set(why, [...(groups.get(why) ?? []), name]);
  }
  const notes = [...groups].map(([why, names]) => note(names, `not used: ${why}`));
  const names = unmappedTensors.map(({ name, file }) => `${name} in ${file}`);
  return names.length === 0 ? notes : [...notes, note(names, 'not what the index maps: ignored')];
}

/** Multi-token prediction is one layer more than config.json counts, or modules of that name. */
function isBehindLayers(name: string, layers: number): boolean {
  const [, layer] = /(?:^|\.)layers\.(\d+)\./.exec(name) ?? [];
  return /^(?:model\.)?mtp\./.test(name) || (layer !== undefined && Number(layer) >= layers);
}

/** What each of several GPUs had of a load, and where its time went. */
export function gpuNotes({ report, seconds }: LoadedWeights): string[] {
  if (report === null || report.gpus.length === 1) return [];
  const { readySeconds, streamSeconds } = report;
  const beside = seconds - readySeconds - streamSeconds;
  return [
    `loading: ${inSeconds(readySeconds)} making ready, ${inSeconds(streamSeconds)} streaming, ` +
      `${inSeconds(beside)} beside`,
    ...report.gpus.map(({ bytes, readySeconds, streamSeconds, times }, index) => {
      const work = `threads read for ${inSeconds(times.readNs / 1e9)}`;
      const crossed = `crossings under way for ${inSeconds(times.crossNs / 1e9)}`;
      return (
        `loading, GPU ${index}: ${(bytes / 1e9).toFixed(2)} GB in ${inSeconds(streamSeconds)} ` +
        `after ${inSeconds(readySeconds)}; ${work}, ${crossed}`
      );
    }),
  ];
}

const inSeconds = (seconds: number) => `${seconds.toFixed(3)} s`;

function note(names: readonly string[], what: string): string {
  const count = names.length === 1 ? '1 tensor is' : `${names.length} tensors are`;
  return `${count} ${what} (${names[0]}${names.length > 1 ? ', ...' : ''})`;
}
