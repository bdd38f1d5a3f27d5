import type { SealPolicy } from '@bridgekeeper/engine/seal';
import type { Settings } from '../settings/table.ts';
import { readSealKey } from './seal-key.ts';

/** The settings that say what is asked of a model's seal. */
export type SealSettings = Pick<
  Settings,
  'modelSeal' | 'sealRoot' | 'sealKeyFile' | 'sealKeyCommand'
>;

/** Reads the key, if the settings name one: once, since a broker may count. Throws UsageError. */
export async function readSealPolicy(settings: SealSettings): Promise<SealPolicy> {
  const { modelSeal: mode, sealRoot: root, sealKeyFile: file, sealKeyCommand: command } = settings;
  return { mode, root, userKey: await readSealKey({ file, command }) };
}
