import type { EngineCard } from '@bridgekeeper/engine';
import { flagOf } from '../settings/flags.ts';
import type { SettingName, Settings } from '../settings/table.ts';

/**
 * The settings that bear on what a client is served. Places and secrets of the operator are not
 * among them.
 */
const SHOWN = [
  'task',
  'tensorParallelSize',
  'enableExpertParallel',
  'dataParallelSize',
  'maxModelLen',
  'maxNumSeqs',
  'maxNumBatchedTokens',
  'gpuMemoryUtilization',
  'kvCacheMemoryBytes',
  'blockSize',
  'enablePrefixCaching',
  'stateSnapshots',
  'kvOffloadingSize',
  'enableChunkedPrefill',
  'dtype',
  'kvCacheDtype',
  'quantization',
  'literalUserText',
  'toolCallParser',
  'reasoningParser',
  'enableAutoToolChoice',
  'loadFormat',
  'interTokenLimitMs',
  'speculativeConfig',
  'maxWaitingRequests',
  'maxBodyBytes',
  'receiptsMax',
  'receiptsDays',
] as const satisfies readonly SettingName[];

type Plain = string | number | boolean | null;

/** What the server runs with, as its report shows it: plain data, by the names of the flags. */
export function configurationOf(
  settings: Settings,
  card: Pick<EngineCard, 'law' | 'policy' | 'device'>,
  keepsReceipts: boolean,
): Readonly<Record<string, Plain>> {
  const shown = SHOWN.map((name): [string, Plain] => [flagOf(name), settings[name] ?? null]);
  return {
    ...Object.fromEntries(shown),
    device: String(card.device.kind ?? 'unknown'),
    law: card.law,
    policy: card.policy,
    'needs-api-key': settings.apiKey.length + settings.gatewayKey.length > 0,
    tls: settings.sslCertfile !== undefined,
    receipts: keepsReceipts,
  };
}
