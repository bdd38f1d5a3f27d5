import {
  type Change,
  commitmentOf,
  type LogEntry,
  type LoggedTenancy,
  type Opening,
} from './entries.ts';

/** What a log cannot be if the fabric was what it should be. */
export type ReplayRule =
  | 'overlap'
  | 'intent'
  | 'reset'
  | 'order'
  | 'table'
  | 'alarm'
  | 'host'
  | 'begin';

export interface ReplayFinding {
  readonly index: number;
  readonly rule: ReplayRule;
  readonly message: string;
}

/** One life of one tenancy, by positions in the log; null: it did not come to that. */
export interface ReplayedLife {
  readonly commitment: string;
  readonly epoch: number;
  readonly modules: readonly number[];
  readonly partition: number;
  readonly sanitizedAt: number | null;
  readonly activatedAt: number | null;
  readonly deactivatedAt: number | null;
  /** When its guest was admitted last: what a receipt of that guest may name. */
  readonly admittedAt: number | null;
  readonly isMine: boolean;
}

export interface Replay {
  readonly entries: number;
  readonly lives: readonly ReplayedLife[];
  /** The device at each place, as learnt last. */
  readonly devices: Readonly<Record<number, string>>;
  /** Fabric Manager's version, as an agent said last; null: none did. */
  readonly fmVersion: string | null;
  /** About anybody's tenancy: an operator who is careless with one is careless. */
  readonly findings: readonly ReplayFinding[];
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface Life extends Mutable<ReplayedLife> {
  /** Changes that were announced: true until they have happened. */
  readonly intents: Map<Change, boolean>;
  lastFact: Change | null;
  /** Its guest's evidence held, after the guest was begun. */
  isAttested: boolean;
}

/**
 * Replays a host's log from its first entry. Whose a tenancy is, only its opening tells; that two
 * never had one module at the same time is to be seen without it. A module counts as given from the
 * intent to activate on, because what was to happen may have happened, until it is deactivated.
 */
export function replayLog(entries: readonly LogEntry[], openings: readonly Opening[] = []): Replay {
  const mine = new Set(openings.map(commitmentOf));
  const lives = new Map<string, Life>();
  const holders = new Map<number, Life>();
  /** When the last tenancy's guest could no longer reach a module. */
  const leftAt = new Map<number, number>();
  const devices: Record<number, string> = {};
  const findings: ReplayFinding[] = [];
  let table: ReadonlyMap<number, string> | null = null;
  let fmVersion: string | null = null;
  const host = entries[0]?.host;

  for (const [index, entry] of entries.entries()) {
    const find = (rule: ReplayRule, message: string) => findings.push({ index, rule, message });
    if (index === 0 && entry.kind !== 'agent-started') find('begin', 'the log has no beginning');
    if (entry.host !== host) find('host', `it is of ${entry.host}, in a log of ${host}`);
    switch (entry.kind) {
      case 'agent-started':
        fmVersion = entry.fmVersion;
        break;
      case 'devices':
        for (const { module, identity } of entry.devices) devices[module] = identity;
        break;
      case 'table':
        table = new Map(entry.partitions.map(({ id, modules }) => [id, nameOf(modules)]));
        // Fabric Manager reads its table when it starts: then nothing of before is active.
        for (const life of new Set(holders.values())) {
          if (table.get(life.partition) === nameOf(life.modules)) continue;
          find('table', `partition ${life.partition} is another now, and was in use`);
        }
        break;
      case 'alarm':
        find('alarm', `modules ${entry.modules.join(', ')}: ${entry.reason}`);
        break;
      case 'fm-restarted':
        // What is not active any more was left, and by whom it is taken next is checked as ever.
        for (const [module, life] of holders) {
          if (entry.after.includes(life.partition) || life.activatedAt === null) continue;
          holders.delete(module);
          leftAt.set(module, index);
          life.deactivatedAt = index;
        }
        break;
      case 'intent':
      case 'fact': {
        const { tenancy, change } = entry;
        const key = `${tenancy.commitment} ${tenancy.epoch}`;
        const life = lives.get(key) ?? begin(tenancy, mine);
        lives.set(key, life);
        const who = `tenancy ${tenancy.commitment.slice(0, 12)}`;
        if (nameOf(tenancy.modules) !== nameOf(life.modules)) {
          find('overlap', `${who} has other modules than before`);
        }
        const isOpen = life.intents.get(change);
        if (entry.kind === 'fact' && isOpen === undefined) {
          find('intent', `${who}: ${change} without an intent`);
        }
        if (entry.kind === 'fact' && isOpen === false) {
          // An agent that ended right after a fact says it again: that is no second change.
          if (life.lastFact === change) break;
          find('intent', `${who}: ${change} once more without an intent`);
        }
        life.intents.set(change, entry.kind === 'intent');
        if (entry.kind === 'intent' && change === 'boot' && !isActive(life)) {
          find('order', `${who}: its guest begins before its partition is active`);
        }
        if (entry.kind === 'intent' && change === 'admit' && !life.isAttested) {
          find('order', `${who}: its guest is admitted without evidence`);
        }
        if (change === 'activate') {
          for (const module of tenancy.modules) {
            const holder = holders.get(module);
            if (holder !== undefined && holder !== life) {
              const other = holder.commitment.slice(0, 12);
              find('overlap', `module ${module} is given to ${who} while ${other} has it`);
            }
            holders.set(module, life);
            const left = leftAt.get(module) ?? -1;
            if (life.sanitizedAt === null || life.sanitizedAt < left) {
              find('reset', `module ${module} was not reset for ${who} after its last tenant`);
            }
          }
          if (table !== null && table.get(tenancy.partition) !== nameOf(tenancy.modules)) {
            find(
              'table',
              `partition ${tenancy.partition} is not modules ${nameOf(tenancy.modules)}`,
            );
          }
        }
        if (entry.kind === 'fact') settle(life, change, index, holders, leftAt);
        break;
      }
      default:
        break;
    }
  }
  const replayed = [...lives.values()].map(shown);
  return { entries: entries.length, lives: replayed, devices, fmVersion, findings };
}

/** Whether what happened last to its partition is that it became active. */
export function isActive({ activatedAt, deactivatedAt }: ReplayedLife): boolean {
  return activatedAt !== null && deactivatedAt === null;
}

function shown({
  intents: _,
  lastFact: _fact,
  isAttested: _evidence,
  ...life
}: Life): ReplayedLife {
  return life;
}

function begin(
  { commitment, epoch, modules, partition }: LoggedTenancy,
  mine: ReadonlySet<string>,
): Life {
  return {
    commitment,
    epoch,
    modules,
    partition,
    sanitizedAt: null,
    activatedAt: null,
    deactivatedAt: null,
    admittedAt: null,
    isMine: mine.has(commitment),
    intents: new Map(),
    lastFact: null,
    isAttested: false,
  };
}

function settle(
  life: Life,
  change: Change,
  index: number,
  holders: Map<number, Life>,
  leftAt: Map<number, number>,
): void {
  life.lastFact = change;
  if (change === 'sanitize') life.sanitizedAt = index;
  if (change === 'activate') {
    life.activatedAt = index;
    life.deactivatedAt = null;
  }
  if (change === 'boot') life.isAttested = false;
  if (change === 'attest') life.isAttested = true;
  if (change === 'admit') life.admittedAt = index;
  if (change !== 'deactivate' && change !== 'unbind') return;
  if (change === 'deactivate') life.deactivatedAt = index;
  for (const module of life.modules) {
    leftAt.set(module, index);
    if (change === 'deactivate' && holders.get(module) === life) holders.delete(module);
  }
}

function nameOf(modules: readonly number[]): string {
  return modules.toSorted((a, b) => a - b).join(',');
}
