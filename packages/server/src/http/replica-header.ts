/** Which replica of a fleet answered. */
export const REPLICA_HEADER = 'X-Bridgekeeper-Replica';

/** A replica as its receipts name it. */
interface NamedReplica {
  readonly id: string;
  readonly tenancyEpoch: number;
  /** null: there is no fabric. */
  readonly logIndex: number | null;
}

/** `id;epoch=3;log=17` */
export function replicaText({ id, tenancyEpoch, logIndex }: NamedReplica): string {
  return `${id};epoch=${tenancyEpoch}${logIndex === null ? '' : `;log=${logIndex}`}`;
}
