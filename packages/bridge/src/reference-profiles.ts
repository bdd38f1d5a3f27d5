import { createRequire } from 'node:module';
import { type Profile, parseProfile } from './profile.ts';

/** Machines known from publications, one JSON file each in `profiles/`. */
export const REFERENCE_PROFILE_NAMES = [
  'b300-cc',
  'b300-cc-tinfoil',
  'b300-native',
  'b200-cc',
  'b200-native',
  'h100-cc',
  'h100-native',
] as const;
export type ReferenceProfileName = (typeof REFERENCE_PROFILE_NAMES)[number];

const require = createRequire(import.meta.url);
const loaded = new Map<ReferenceProfileName, Profile>();

export function isReferenceProfileName(name: string): name is ReferenceProfileName {
  return (REFERENCE_PROFILE_NAMES as readonly string[]).includes(name);
}

/** The reference profile of that name, read from the package once. */
export function referenceProfile(name: ReferenceProfileName): Profile {
  let profile = loaded.get(name);
  if (profile === undefined) {
    profile = parseProfile(require(`../profiles/${name}.json`));
    loaded.set(name, profile);
  }
  return profile;
}
