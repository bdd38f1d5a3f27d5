import type { ModelFiles } from '../models/files.ts';
import { type OpenedSeal, openSeal, type SealPolicy } from './open.ts';
import { readSmallFiles } from './small-files.ts';

/** A model folder that a policy is content with. */
export interface OpenedModel {
  readonly folder: string;
  /** null: it is taken as it lies. */
  readonly seal: OpenedSeal | null;
  /** With a seal: all of them, verified. */
  readonly files: ModelFiles;
}

/**
 * Opens the seal of the model in `folder` as `policy` wants it, and with a seal reads and verifies
 * every file beside the weights; these are verified where they are loaded. Throws ModelError.
 */
export async function openModel(folder: string, policy: SealPolicy): Promise<OpenedModel> {
  const seal = await openSeal(folder, policy);
  if (seal === null) return { folder, seal, files: folder };
  return { folder, seal, files: { folder, contents: await readSmallFiles(folder, seal) } };
}

/**
 * The policy by which another thread opens the same model or none: storage could put another one
 * there meanwhile, with a manifest of its own.
 */
export function pinSeal(policy: SealPolicy, { seal }: OpenedModel): SealPolicy {
  return seal === null ? { mode: 'off' } : { ...policy, mode: 'require', root: seal.seal.root };
}
