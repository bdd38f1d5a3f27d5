import { createHash } from 'node:crypto';
import { canonicalBytes } from '@bridgekeeper/attest/canonical';

/** What a bundle holds and what it was made from: `bundle.json` at the bundle's root. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  /** The commit it was made from, ending in `-dirty` with changes on top; null without git. */
  readonly commit: string | null;
  /** The version of the Node that is packed, without `v`. */
  readonly node: string;
  /** As in Node's names for them, such as `linux-x64`. */
  readonly platform: string;
  /** Everything else in the bundle, sorted by path. */
  readonly files: readonly ManifestFile[];
  /** Lower-case hex SHA-256 of the canonical JSON of this object without `digest`. */
  readonly digest: string;
}

/** A file with the SHA-256 of its bytes, or a symbolic link. Paths use forward slashes. */
export type ManifestFile =
  | { readonly path: string; readonly bytes: number; readonly sha256: string }
  | { readonly path: string; readonly link: string };

/** The digest that `manifest` must carry. */
export function manifestDigest({ digest: _, ...rest }: Manifest): string {
  return createHash('sha256').update(canonicalBytes(rest)).digest('hex');
}

/** Completes a manifest with its digest. */
export function sealManifest(unsealed: Omit<Manifest, 'digest'>): Manifest {
  return { ...unsealed, digest: manifestDigest({ ...unsealed, digest: '' }) };
}
