/** What the thread of a `CudaWarmUp` is started with: plain data. */
export interface WarmUpStart {
  /** By default GPU 0. */
  readonly ordinal?: number;
  /** By default what the system's loader finds. */
  readonly driverPath?: string;
}
