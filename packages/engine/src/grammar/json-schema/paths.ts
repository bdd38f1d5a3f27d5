import { GrammarError } from '../errors.ts';
import { type Case, type Demand, not } from './cases.ts';
import type { Schema } from './document.ts';
import type { KeywordReader } from './keywords.ts';

/** One of several ways to meet a demand, which was found at a place in the schema. */
export type Way = (path: Path) => void;

/** A demand, and by which keywords it was reached: what a schema names first comes first. */
export interface Ranked extends Demand {
  readonly rank: readonly number[];
}

/** A case that is being made, with what is still demanded. */
export interface Path {
  readonly subject: Case;
  readonly demands: Ranked[];
  /** Choices that are still to be made; each is a list of ways. */
  readonly choices: (readonly Way[])[];
  /** Demands met, by schema: whether it must hold. */
  readonly seen: Map<Schema, boolean>;
  /** Why this case cannot be expressed, should it be possible at all. */
  unsupported: GrammarError | undefined;
}

export function errorOf(refuses: () => never): GrammarError {
  try {
    return refuses();
  } catch (error) {
    if (error instanceof GrammarError) return error;
    throw error;
  }
}

export function ranked(demand: Demand, rank: readonly number[]): Ranked {
  return { ...demand, rank };
}

export function demanding(rank: readonly number[], ...demands: readonly Demand[]): Way {
  return (path) => {
    path.demands.push(...demands.map((demand) => ranked(demand, rank)));
  };
}

export function copyOf(path: Path): Path {
  return {
    subject: path.subject.clone(),
    demands: [...path.demands],
    choices: [...path.choices],
    seen: new Map(path.seen),
    unsupported: path.unsupported,
  };
}

/** The branches of an if: what it is about, and what must hold then. */
export function waysOfConditions(read: KeywordReader): [Demand, Demand[]][] {
  const condition = read.schema('if');
  const branch = (keyword: string) => (read.has(keyword) ? [read.schema(keyword)] : []);
  return [
    [condition, branch('then')],
    [not(condition), branch('else')],
  ];
}
