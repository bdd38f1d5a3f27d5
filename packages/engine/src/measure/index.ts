export { type PreparedModel, prepareModel, startEngine, tiersRequest } from '../create.ts';
export { pageKey, rootKey } from '../kv/page-key.ts';
export type { KvGroup } from '../kv/tiers/movement.ts';
export { type OpenTiers, openTiers } from '../mover/open-tiers.ts';
export { decodeWork, floorsNs, prefillWork, type Work } from './floors.ts';
export { measureDeviceMasks, measureHostMasks } from './masked-decode.ts';
export { measureMasks } from './masks.ts';
export { type DeviceRates, measureRates, runToEnd } from './rates.ts';
export { fitsKv, measureDecode, measurePrefill, type StepTime } from './steps.ts';
