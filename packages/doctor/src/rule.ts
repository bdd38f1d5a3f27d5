import type { EngineName as PlannedEngine } from '@bridgekeeper/planner';
import type { Change } from './command/correct.ts';
import { ENGINE_TITLES, type EngineName } from './command/engine-command.ts';
import { FACT_TITLES, type FactName, type Facts, type FactValues } from './facts.ts';
import { isInRange, rangeText, type VersionRange } from './version.ts';

/**
 * critical: what leaves the machine is wrong or not protected. error: it does not start, or loses
 * most of its speed. warning: it loses some. info: good to know.
 */
export const SEVERITIES = ['critical', 'error', 'warning', 'info'] as const;
export type Severity = (typeof SEVERITIES)[number];

export interface Source {
  readonly name: string;
  /** measured: published figures. documented: a vendor or maintainer says so. inferred: by us. */
  readonly basis: 'measured' | 'documented' | 'inferred';
}

/** What the planner compares, to say what a remedy brings. */
export interface Remedy {
  readonly before: PlannedEngine;
  readonly after: PlannedEngine;
  /** Without graphs before, with them after. */
  readonly captures?: true;
}

/** What a rule saw on this machine or in this command. */
export interface Verdict {
  readonly evidence: string;
  readonly changes?: readonly Change[];
}

interface RuleText {
  readonly id: string;
  readonly severity: Severity;
  readonly title: string;
  readonly consequence: string;
  readonly remedy: string;
  readonly sources: readonly Source[];
  /** Absent: it brings what no plan shows, such as right answers. */
  readonly planned?: Remedy;
  /** Holds for this engine only. */
  readonly engine?: EngineName;
  /** Holds for the versions that its sources name; without it they name none. */
  readonly versions?: VersionRange;
}

export interface Rule extends RuleText {
  readonly needs: readonly FactName[];
  /** null: nothing to find. Called only with every needed fact known. */
  readonly check: (facts: FactValues) => Verdict | null;
}

/** A rule whose check sees the facts it says it needs, and no others. */
export function defineRule<const Name extends FactName>(
  rule: RuleText & {
    readonly needs: readonly Name[];
    readonly check: (facts: Pick<FactValues, Name>) => Verdict | null;
  },
): Rule {
  return rule;
}

export interface Finding {
  readonly id: string;
  readonly severity: Severity;
  readonly title: string;
  readonly evidence: string;
  readonly consequence: string;
  readonly remedy: string;
  readonly sources: readonly Source[];
  /** What the planner compares for it; null: nothing. */
  readonly planned: Remedy | null;
  /** The versions the rule holds for; null: its sources name none. */
  readonly versions: string | null;
  readonly changes: readonly Change[];
}

/** Rules that could not be judged, by the one reason why. */
export interface NotChecked {
  readonly because: string;
  /** What is not known for that reason. */
  readonly unknown: readonly string[];
  readonly rules: readonly { readonly id: string; readonly versions: string | null }[];
}

export interface Diagnosis {
  /** Most severe first. */
  readonly findings: readonly Finding[];
  readonly notChecked: readonly NotChecked[];
}

/** Judges facts by rules. What is not known makes no finding, and is listed. */
export function diagnose(facts: Facts, rules: readonly Rule[]): Diagnosis {
  const findings: Finding[] = [];
  const because = new Map<string, { fact: FactName; rule: Rule }[]>();
  for (const rule of rules) {
    const outcome = judge(facts, rule);
    if (outcome === null) continue;
    if (!('lacking' in outcome)) {
      findings.push(outcome);
      continue;
    }
    const { lacking: fact, reason } = outcome;
    because.set(reason, [...(because.get(reason) ?? []), { fact, rule }]);
  }
  findings.sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity));
  const notChecked = [...because].map(([reason, gaps]) => ({
    because: reason,
    unknown: [...new Set(gaps.map(({ fact }) => FACT_TITLES[fact]))],
    rules: gaps.map(({ rule }) => ({ id: rule.id, versions: versionText(rule) })),
  }));
  return { findings, notChecked };
}

interface Gap {
  readonly lacking: FactName;
  readonly reason: string;
}

function judge(facts: Facts, rule: Rule): Finding | Gap | null {
  const { engine, engineVersion } = facts;
  if (rule.engine !== undefined && engine.known && engine.value.engine !== rule.engine) return null;
  const values: Partial<Record<FactName, unknown>> = {};
  for (const name of rule.needs) {
    const fact = facts[name];
    if (!fact.known) return { lacking: name, reason: fact.reason };
    values[name] = fact.value;
  }
  const verdict = rule.check(values as unknown as FactValues);
  if (verdict === null) return null;
  // Last, so that a version is asked for only where it decides.
  if (rule.versions !== undefined) {
    if (!engineVersion.known) return { lacking: 'engineVersion', reason: engineVersion.reason };
    if (!isInRange(engineVersion.value, rule.versions)) return null;
  }
  const { id, severity, title, consequence, remedy, sources, planned = null } = rule;
  const { evidence, changes = [] } = verdict;
  const said = { id, severity, title, evidence, consequence, remedy, sources, planned };
  return { ...said, versions: versionText(rule), changes };
}

/** `vLLM 0.25.0 and later`; null where the sources name no version. */
export function versionText({ engine, versions }: Rule): string | null {
  if (versions === undefined) return null;
  return `${engine === undefined ? '' : `${ENGINE_TITLES[engine]} `}${rangeText(versions)}`;
}
