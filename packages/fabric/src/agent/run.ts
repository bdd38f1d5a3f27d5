import type { Clock } from '@bridgekeeper/bridge';
import { FabricError } from '../errors.ts';
import type { AgentState, Desired, WantedTenancy } from '../tenancy/state.ts';
import { isQuarantined } from '../tenancy/state.ts';
import type { Agent } from './agent.ts';
import type { AgentCommands } from './commands.ts';

/** Between the beginnings of two rounds, unless a command comes. */
const ROUND_NS = 2e9;

export interface AgentRun {
  readonly agent: Agent;
  readonly clock: Clock;
  /** The text of what is desired, as it is now; null: nobody has said yet. */
  readonly desired: () => string | null;
  readonly isStopping: () => boolean;
  /** What went wrong in a round; each is repeated in the next one. */
  readonly onTrouble: (error: FabricError) => void;
  /** What comes by the agent's socket. */
  readonly commands?: AgentCommands;
  /** After each round that was not cut short. */
  readonly onRound?: () => void;
  readonly roundNs?: number;
}

/** Runs an agent until it is to stop, which it does between two rounds. */
export async function runAgent(run: AgentRun): Promise<void> {
  const { agent, clock, desired, isStopping, onTrouble, commands, roundNs = ROUND_NS } = run;
  let applied: string | null = null;
  while (!isStopping()) {
    try {
      await agent.round();
      const text = desired();
      if (text !== null && text !== applied) {
        await agent.apply(parsed(text));
        applied = text;
      }
      run.onRound?.();
    } catch (error) {
      if (!(error instanceof FabricError)) throw error;
      onTrouble(error);
    }
    await commands?.doAll(agent);
    const rest = clock.sleepUntilNs(clock.nowNs() + roundNs);
    await (commands === undefined ? rest : Promise.race([rest, commands.arrival()]));
    await commands?.doAll(agent);
  }
}

/**
 * Runs an agent until something has come about; null: the time was over first. Throws FabricError,
 * of a round too: whoever waits for one thing wants to know at once.
 */
export async function runUntil<T>(
  agent: Agent,
  clock: Clock,
  limitSeconds: number,
  reached: (state: AgentState) => T | null,
  roundNs = ROUND_NS,
): Promise<T | null> {
  const endNs = clock.nowNs() + limitSeconds * 1e9;
  for (;;) {
    await agent.round();
    const result = reached(agent.state);
    if (result !== null) return result;
    if (clock.nowNs() > endNs) return null;
    await clock.sleepUntilNs(clock.nowNs() + roundNs);
  }
}

/** What shall be on a host with one tenancy more, or with one of the same id replaced. */
export function withTenancy({ host, desired }: AgentState, wanted: WantedTenancy): Desired {
  const others = desired?.tenancies.filter(({ id }) => id !== wanted.id) ?? [];
  return next(host, desired, [...others, wanted]);
}

/** The same without one. Throws FabricError 'bad-desired': it is not desired now. */
export function withoutTenancy({ host, desired }: AgentState, id: string): Desired {
  const others = desired?.tenancies.filter((wanted) => wanted.id !== id) ?? [];
  if (desired !== null && others.length < desired.tenancies.length) {
    return next(host, desired, others);
  }
  throw new FabricError('bad-desired', `there is no tenancy ${id}; \`fabric status\` lists them`);
}

/** How a tenancy that shall be there is; null: it is on its way. */
export function arrivalOf(
  state: AgentState,
  id: string,
): { readonly isThere: boolean; readonly why: string } | null {
  const tenancy = state.tenancies.find((each) => each.id === id);
  if (tenancy === undefined) return null;
  if (isQuarantined(state, tenancy.modules)) {
    return { isThere: false, why: tenancy.leaving ?? 'its modules are in quarantine' };
  }
  if (tenancy.leaving !== null) return { isThere: false, why: tenancy.leaving };
  const goal = tenancy.guest === null ? 'activated' : 'admitted';
  return tenancy.phase === goal ? { isThere: true, why: goal } : null;
}

function next(host: string, before: Desired | null, tenancies: WantedTenancy[]): Desired {
  const { epoch = 0, sequence = 0 } = before ?? {};
  return { host, epoch, sequence: sequence + 1, tenancies };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FabricError('bad-desired', 'the desired state is no JSON', { cause });
  }
}
