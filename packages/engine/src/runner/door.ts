import type { CrossingRecord } from '@bridgekeeper/bridge';
import type { CopyRequest, Lane } from '@bridgekeeper/device';

/** The one door: a lane, and whoever keeps the account of what passes it. */
export class Door {
  readonly lane: Lane;
  readonly record: (record: CrossingRecord) => void;

  constructor(lane: Lane, record: (record: CrossingRecord) => void) {
    this.lane = lane;
    this.record = record;
  }

  async copy(request: CopyRequest): Promise<CrossingRecord> {
    const record = await this.lane.copy(request);
    this.record(record);
    return record;
  }
}
