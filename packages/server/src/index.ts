export { buildEngine, engineOptions } from './engine/build.ts';
export { assumeProfile } from './engine/config/assume-profile.ts';
export type { LoadingDecision } from './engine/config/choose-loading.ts';
export { chooseLaw, configureEngine, lawName, policyOn } from './engine/config/configure.ts';
export type { EngineConfig } from './engine/config/engine-config.ts';
export { keepLoadingStrategy } from './engine/config/loading-store.ts';
export { measuredProfilePath } from './engine/config/measured-profiles.ts';
export { readSpeculativeConfig } from './engine/config/speculative-config.ts';
export { measuredDevice } from './engine/measured-device.ts';
export { EVERY_LANE_ARRIVES, openDevice } from './engine/open-device.ts';
export { startConfiguredEngine } from './engine/start-configured-engine.ts';
export type { PhaseTime } from './engine/start-timeline.ts';
export { SyntheticEngine, syntheticStart } from './engine/synthetic-engine.ts';
export { warmUpDevice } from './engine/warm-up.ts';
export { Machine } from './evidence/machine.ts';
export { type MadeReport, Reporter } from './evidence/reporter.ts';
export { readSoftware, type VersionInfo } from './evidence/software.ts';
export { type FoundModel, findModel, type ModelSearch } from './find-model.ts';
export { type Logger, openLog } from './logging/logger.ts';
export { defaultReceiptsFile } from './receipts/open.ts';
export { readSealKey } from './seal/seal-key.ts';
export { readSealPolicy } from './seal/seal-policy.ts';
export { checkVariables, readConfiguration, settingsWith } from './settings/configuration.ts';
export {
  type Flag,
  type FlagTable,
  flag,
  flagOf,
  optionalArgument,
  requiredArgument,
  type Values,
} from './settings/flags.ts';
export {
  digest,
  integer,
  type Kind,
  kindOf,
  listOf,
  number,
  oneOf,
  onOff,
  repeated,
  secret,
  text,
  texts,
  time,
} from './settings/kinds.ts';
export { type Resolved, UsageError } from './settings/resolve.ts';
export { quoteStyleOf, quoteWord, usualStyle } from './settings/shell/quote.ts';
export { CommandError, type ShellCommand, splitWords, type Word } from './settings/shell/words.ts';
export { MODEL_FLAG, SETTINGS, type SettingName, type Settings } from './settings/table.ts';
export { VLLM_ALIASES, VLLM_FLAGS, type VllmFlag } from './settings/vllm-flags.ts';
export { type RunningServer, type ServerParts, startServer } from './start.ts';
