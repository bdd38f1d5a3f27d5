import { ModelError } from '../models/errors.ts';
import { parseJson } from '../models/files.ts';
import { scanStrict } from '../models/strict-json.ts';

export const INDEX_NAME = 'model.safetensors.index.json';

/** More than any published checkpoint has, few enough to hold open at once. */
const MAX_SHARDS = 1024;
const SHARD_NAME = /^[^/\\\0]+\.safetensors$/;

function show(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 120);
}

/** A shard is a file of the folder itself: a path could lead anywhere. */
function checkShardName(name: unknown, tensor: string): asserts name is string {
  if (typeof name !== 'string' || !SHARD_NAME.test(name)) {
    const rule = 'a shard is a *.safetensors file name without path separators';
    const message = `${INDEX_NAME}: tensor ${show(tensor)} is mapped to ${show(name)}; ${rule}`;
    throw new ModelError('malformed', message);
  }
}

/** Reads an index's text: tensor name to shard file name. Throws ModelError `malformed`. */
export function parseShardIndex(text: string): ReadonlyMap<string, string> {
  const parsed = parseJson(text, INDEX_NAME) as { weight_map?: unknown } | null;
  const finding = scanStrict(text);
  if (finding?.kind === 'duplicate-key') {
    throw new ModelError('malformed', `${INDEX_NAME} has the key ${show(finding.key)} twice`);
  }
  const weightMap = parsed?.weight_map;
  if (typeof weightMap !== 'object' || weightMap === null || Array.isArray(weightMap)) {
    const expected = '"weight_map", an object of tensor names to shard file names';
    throw new ModelError('malformed', `${INDEX_NAME} lacks ${expected}`);
  }
  const map = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    checkShardName(shard, tensor);
    map.set(tensor, shard);
  }
  const shards = new Set(map.values()).size;
  if (shards === 0) throw new ModelError('malformed', `${INDEX_NAME}: "weight_map" is empty`);
  if (shards > MAX_SHARDS) {
    throw new ModelError(
      'unsupported',
      `${INDEX_NAME} names ${shards} shards; up to ${MAX_SHARDS}`,
    );
  }
  return map;
}
