/** The most that one Fabric Manager lists: `FM_MAX_FABRIC_PARTITIONS` and `FM_MAX_NUM_GPUS`. */
export const PARTITIONS_MAX = 64;
export const PARTITION_GPUS_MAX = 16;

/** A set of GPUs that Fabric Manager can let reach each other, by where they are on the board. */
export interface Partition {
  readonly id: number;
  readonly isActive: boolean;
  /** Fabric Manager's `physicalId`: the module, 1 to 16. Ascending, each once. */
  readonly modules: readonly number[];
  /** Links in use and possible for each GPU, in the order of `modules`; 0 for one GPU alone. */
  readonly links: readonly { readonly available: number; readonly possible: number }[];
}

/**
 * One host's Fabric Manager. Every call connects, acts and disconnects, because the daemon restarts
 * under its clients. Every call ends: what is not answered in time rejects with 'fm-unanswered',
 * and what it was to do may have happened. All throw FabricError.
 */
export interface FabricManager {
  /** The daemon's, such as `590.48.01`: it must equal the driver's in the guests. */
  version(): Promise<string>;
  /** What it can activate, by ascending id: at most `PARTITIONS_MAX`, ids and modules distinct. */
  partitions(): Promise<readonly Partition[]>;
  activate(partition: number): Promise<void>;
  deactivate(partition: number): Promise<void>;
  /** Tells a daemon that was started to resume which partitions are active; once, within 60 s. */
  setActivated(partitions: readonly number[]): Promise<void>;
}
