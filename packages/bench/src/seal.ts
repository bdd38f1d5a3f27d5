import type { SealPolicy } from '@bridgekeeper/engine/seal';
import { digest, readSealPolicy, resolveSettings, SETTINGS, text } from '@bridgekeeper/server';
import type { SuiteParameter } from './suite.ts';

const { modelSeal, sealRoot, sealKeyFile, sealKeyCommand } = SETTINGS;
const UNSET = undefined;

/** How suites that read a model are told of its seal: as `serve` is. */
export const SEAL_PARAMETERS = {
  'model-seal': modelSeal,
  'seal-root': { kind: digest(), default: UNSET, help: sealRoot.help },
  'seal-key-file': { kind: text('file'), default: UNSET, help: sealKeyFile.help },
  'seal-key-command': {
    // A result repeats its command line: how a key is asked for is nobody else's business.
    kind: { ...text('command'), secret: true },
    default: UNSET,
    help: sealKeyCommand.help,
  },
} as const satisfies Readonly<Record<string, SuiteParameter>>;

/** What these flags said, by flag. */
export interface SealValues {
  readonly 'model-seal': string;
  readonly 'seal-root': string | undefined;
  readonly 'seal-key-file': string | undefined;
  readonly 'seal-key-command': string | undefined;
}

/** What the flags ask of a model's seal. Throws UsageError. */
export async function sealPolicyOf(values: SealValues): Promise<SealPolicy> {
  const given = {
    modelSeal: values['model-seal'],
    sealRoot: values['seal-root'],
    sealKeyFile: values['seal-key-file'],
    sealKeyCommand: values['seal-key-command'],
  };
  const entries = Object.entries(given).filter(([, value]) => value !== undefined);
  const flags = Object.fromEntries(entries) as Record<string, string>;
  const { settings } = resolveSettings({ flags, environment: {}, readFile: () => '' });
  return readSealPolicy(settings);
}
