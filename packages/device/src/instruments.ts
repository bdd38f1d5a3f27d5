import type { ForbiddenFeature } from '@bridgekeeper/bridge';

/** Whether a feature that confidential computing may take away works here. */
export interface FeatureVerdict {
  readonly feature: ForbiddenFeature;
  readonly works: boolean;
  /** What was seen, with the platform's own words. */
  readonly detail: string;
}

/** Many small copies to the device, as one call and one by one. */
export interface BatchTimes {
  readonly batchNs: number;
  readonly oneByOneNs: number;
}

export interface PeerRate {
  readonly from: number;
  readonly to: number;
  readonly bytesPerSecond: number;
}

/**
 * What a probe asks of a machine that serving has no use for. All of it runs on the launching
 * thread, blocks it, is timed by the host's clock, and leaves nothing behind. Methods throw
 * DeviceError where the platform refuses.
 */
export interface BridgeInstruments {
  /** Opens and closes one more context on this thread. */
  timeContext(): { readonly createNs: number; readonly destroyNs: number };
  /** Tries each feature with a harmless use of it. */
  tryFeatures(): readonly FeatureVerdict[];
  /** Throws `unsupported` where the driver has no batched copies. */
  timeBatch(count: number, bytes: number): BatchTimes;
  /** From this GPU to each other one that it can reach; empty where there is none. */
  timePeers(bytes: number): readonly PeerRate[];
}
