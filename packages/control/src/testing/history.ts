/** A change as control says it in `GET /v1/events`. */
export interface HistoryEvent {
  readonly sequence: number;
  readonly kind: string;
  readonly id: string;
  readonly version: number;
  /** Null: it is gone. */
  readonly row: Readonly<Record<string, unknown>> | null;
}

/** A write that control has acknowledged: the row as it was answered. */
export interface AcknowledgedWrite {
  readonly kind: string;
  readonly id: string;
  readonly version: number;
}

/**
 * What does not hold of a history that was followed from the first event: each event once and in
 * order, each row's versions one after the other, no GPU of two replicas at a time, and all that
 * was acknowledged there.
 */
export function faultsOf(
  history: readonly HistoryEvent[],
  acknowledged: readonly AcknowledgedWrite[],
): string[] {
  const faults: string[] = [];
  const versions = new Map<string, number>();
  const written = new Set<string>();
  /** Replica by host and module, and the GPUs of each replica. */
  const holders = new Map<string, string>();
  const held = new Map<string, readonly string[]>();
  for (const [index, { sequence, kind, id, version, row }] of history.entries()) {
    if (sequence !== index + 1) faults.push(`event ${sequence} is the ${index + 1}th that came`);
    const name = `${kind} ${id}`;
    const before = versions.get(name) ?? 0;
    if (version !== before + 1) faults.push(`${name}: version ${version} follows ${before}`);
    // A name that is used again begins anew.
    if (row === null) versions.delete(name);
    else versions.set(name, version);
    written.add(`${name} ${version}`);
    if (kind !== 'replica') continue;
    for (const gpu of held.get(id) ?? []) holders.delete(gpu);
    const gpus = row === null ? [] : gpusOf(row);
    for (const gpu of gpus) {
      const holder = holders.get(gpu);
      if (holder !== undefined) faults.push(`${gpu} is of ${holder} and of ${id}`);
      holders.set(gpu, id);
    }
    held.set(id, gpus);
  }
  for (const { kind, id, version } of acknowledged) {
    if (written.has(`${kind} ${id} ${version}`)) continue;
    faults.push(`${kind} ${id}: version ${version} was acknowledged and never came`);
  }
  return faults;
}

function gpusOf({ host, modules }: Readonly<Record<string, unknown>>): string[] {
  return (modules as readonly number[]).map((module) => `${host}/${module}`);
}
