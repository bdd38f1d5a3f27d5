import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from './settings/resolve.ts';

/** Where a model's files are. */
export interface FoundModel {
  readonly folder: string;
  /** The name it was found by in the cache, under which it is served; null: it is a folder. */
  readonly name: string | null;
}

export interface ModelSearch {
  /** The cache, in the layout of Hugging Face's hub; undefined: where its own tools have it. */
  readonly downloadDir: string | undefined;
  /** A branch, a tag, or a commit; undefined: main. */
  readonly revision: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** `gpt2`, `Qwen/Qwen3-0.6B`: never a path that leaves the cache. */
const NAME = /^(?!.*(?:\.\.|--))[A-Za-z0-9][\w.-]*(?:\/[A-Za-z0-9][\w.-]*)?$/;
const COMMIT = /^[0-9a-f]{40}$/;

/**
 * The folder of a model: `model` itself, or what Hugging Face's tools have fetched under this name.
 * Nothing is fetched here: a server in a confidential VM takes what it was given. Throws UsageError
 * with the command that fetches it.
 */
export function findModel(model: string, search: ModelSearch): FoundModel {
  const isFolder = statSync(model, { throwIfNoEntry: false })?.isDirectory() === true;
  const { downloadDir, revision = 'main' } = search;
  if (isFolder || !NAME.test(model)) {
    if (search.revision === undefined) return { folder: model, name: null };
    throw new UsageError('bad-combination', `--revision: ${model} is a folder, and has none`);
  }
  const cache = downloadDir ?? hubCache(search.environment);
  const entry = join(cache, `models--${model.replaceAll('/', '--')}`);
  const commit = commitOf(entry, revision);
  const folder = commit === undefined ? undefined : join(entry, 'snapshots', commit);
  if (folder !== undefined && existsSync(join(folder, 'config.json'))) {
    return { folder, name: model };
  }
  const options = [
    revision === 'main' ? '' : ` --revision ${revision}`,
    downloadDir === undefined ? '' : ` --cache-dir ${downloadDir}`,
  ].join('');
  const what = folder === undefined ? 'is no folder, and not' : 'is not whole';
  const message = `${model} ${what} in the cache ${cache}; fetch it with: hf download ${model}`;
  throw new UsageError('bad-value', `${message}${options}`);
}

/** As Hugging Face's own library decides. */
function hubCache(environment: ModelSearch['environment']): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = environment;
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(home, 'hub');
}

function commitOf(entry: string, revision: string): string | undefined {
  if (COMMIT.test(revision)) return revision;
  if (revision.split('/').some((part) => part === '..' || part === '')) return undefined;
  try {
    const commit = readFileSync(join(entry, 'refs', revision), 'utf8').trim();
    return COMMIT.test(commit) ? commit : undefined;
  } catch {
    return undefined;
  }
}
