import { FabricError } from '../errors.ts';
import { overlaps } from '../fm/table.ts';
import { readTable } from './read.ts';

/** What tells the tenancies of dstack's VMM from others of a host. */
const PREFIX = 'dstack-';

export interface DstackTenancy {
  /** By the id that dstack gave the partition, which a VM keeps. */
  readonly id: string;
  readonly modules: readonly number[];
}

/**
 * What dstack's VMM wants to be active, and nothing else of its own: of the partition file that it
 * writes, those whose ids it lists, between spaces. Throws FabricError 'bad-plan'.
 */
export function readDstackGoal(file: string, activeIds: string): readonly DstackTenancy[] {
  const table = readTable(file);
  const ids = activeIds.split(/\s+/).filter((id) => id !== '');
  const goal = ids.map((text) => {
    const found = table.find(({ id }) => String(id) === text);
    if (found !== undefined) return { id: `${PREFIX}${found.id}`, modules: found.modules };
    const message = `partition ${JSON.stringify(text)} is to be active, and not in the file`;
    throw new FabricError('bad-plan', message);
  });
  for (const [i, one] of goal.entries()) {
    const other = goal.slice(0, i).find(({ modules }) => overlaps(modules, one.modules));
    if (other === undefined) continue;
    throw new FabricError('bad-plan', `${other.id} and ${one.id} have a module in common`);
  }
  return goal;
}

/** Which of its tenancies must go, and which must come. One with other modules goes first. */
export function dstackChanges(
  goal: readonly DstackTenancy[],
  desired: readonly DstackTenancy[],
): { readonly gone: readonly string[]; readonly fresh: readonly DstackTenancy[] } {
  const isSame = (one: DstackTenancy) => (other: DstackTenancy) =>
    one.id === other.id && one.modules.join() === other.modules.join();
  return {
    gone: desired
      .filter((one) => one.id.startsWith(PREFIX) && !goal.some(isSame(one)))
      .map(({ id }) => id),
    fresh: goal.filter((one) => !desired.some(isSame(one))),
  };
}
