export {
  kvBytesPerToken,
  type PreparedModel,
  prepareModel,
  startEngine,
  tiersRequest,
} from '../create.ts';
export type { PageNode } from '../kv/page-node.ts';
export type { PagedSequence } from '../kv/paged-sequence.ts';
export { PrefixTree } from '../kv/prefix-tree.ts';
export type { Shelf } from '../kv/shelf.ts';
export type { Mover, Settled } from '../kv/tiers/movement.ts';
export { createTierPolicy, TIER_POLICY_NAMES, type TierPolicyName } from '../kv/tiers/policies.ts';
export type { TierPolicy } from '../kv/tiers/policy.ts';
export type { KvPrices } from '../kv/tiers/prices.ts';
export { openTiers } from '../mover/open-tiers.ts';
export { pieceBytesOf } from '../mover/part-places.ts';
export { kvPools } from '../runner/layer-sizes.ts';
export { decodeWork, floorsNs, prefillWork, type Work } from './floors.ts';
export {
  type HostGrammars,
  type HostMaskTimes,
  measureDeviceMasks,
  measureHostMasks,
} from './masked-decode.ts';
export { measureMasks } from './masks.ts';
export { type DeviceRates, measureRates, runToEnd } from './rates.ts';
export { fitsKv, measureDecode, measurePrefill, type StepTime } from './steps.ts';
