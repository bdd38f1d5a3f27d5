import { type Collected, collectFacts, type DoctorRequest } from './collect/facts.ts';
import { correct } from './command/correct.ts';
import { ENGINE_TITLES, type EngineCommand } from './command/engine-command.ts';
import { hideSecrets } from './command/hide-secrets.ts';
import type { Facts } from './facts.ts';
import { type PlannedGain, plannedGains } from './planned-gains.ts';
import { type Diagnosis, diagnose, type Finding } from './rule.ts';
import { RULES } from './rules/index.ts';

/** A change to a command, why, and by which finding. */
export interface Step {
  readonly step: string;
  /** What the finding says, and which it is. */
  readonly because: string;
  readonly finding: string;
}

/** The engine's command as it is and as it should be, without its secrets. */
export interface CommandReport {
  readonly engine: string;
  readonly command: string;
  /** null: nothing to change. */
  readonly corrected: string | null;
  readonly steps: readonly Step[];
  readonly secretsHidden: number;
}

export interface Examination extends Diagnosis {
  /** What was found out, in words: fact, value, where from. */
  readonly observed: readonly { readonly fact: string; readonly from: string }[];
  readonly notes: readonly string[];
  readonly command: CommandReport | null;
  /** What the planner makes of remedies, by finding; empty where it was not asked. */
  readonly planned: readonly PlannedGain[];
}

/** Collects facts and judges them. Throws CommandError for an engine that cannot be read. */
export function examine(request: DoctorRequest): Examination {
  return judge(collectFacts(request));
}

/** The same, and what the planner makes of each remedy, which takes it some seconds. */
export async function examineAndPlan(request: DoctorRequest): Promise<Examination> {
  const collected = collectFacts(request);
  const examination = judge(collected);
  const planned = await plannedGains(collected.facts, examination.findings);
  return { ...examination, planned };
}

/** The pure part: facts in, examination out. */
export function judge({ facts, notes }: Collected): Examination {
  const diagnosis = diagnose(facts, RULES);
  const command = facts.engine.known ? report(facts.engine.value, diagnosis.findings) : null;
  return { ...diagnosis, observed: observed(facts), notes, command, planned: [] };
}

function report(engine: EngineCommand, findings: readonly Finding[]): CommandReport {
  const planned = findings.flatMap(({ id, title, changes }) =>
    changes.map((change) => ({ id, title, change, key: JSON.stringify(change) })),
  );
  // Two findings may ask for the same change.
  const changes = planned.filter(({ key }, index) => {
    return planned.findIndex((other) => other.key === key) === index;
  });
  const { command, steps } = correct(
    engine,
    changes.map(({ change }) => change),
  );
  const before = hideSecrets(engine.source);
  const after = hideSecrets(command);
  return {
    engine: ENGINE_TITLES[engine.engine],
    command: before.text,
    corrected: changes.length === 0 ? null : after.text,
    steps: steps.map((step, index) => {
      const { id, title } = changes[index]!;
      return { step, because: title, finding: id };
    }),
    secretsHidden: before.count,
  };
}

function observed(facts: Facts): { fact: string; from: string }[] {
  const { confidential, gpuKind, gpuCount, driverVersion, engine, engineVersion } = facts;
  const rows: { fact: string; from: string }[] = [];
  const add = (fact: string, from: string) => void rows.push({ fact, from });
  if (confidential.known) {
    add(`confidential computing ${confidential.value ? 'on' : 'off'}`, confidential.from);
  }
  if (gpuKind.known) {
    const count = gpuCount.known ? `${gpuCount.value} x ` : '';
    const name = gpuKind.value === 'other' ? gpuKind.from : gpuKind.value.toUpperCase();
    add(`${count}${name}`, gpuKind.from);
  }
  if (driverVersion.known) add(`driver ${driverVersion.value.join('.')}`, driverVersion.from);
  if (engine.known) {
    const title = ENGINE_TITLES[engine.value.engine];
    const version = engineVersion.known ? ` ${engineVersion.value.join('.')}` : '';
    add(`${title}${version}`, engineVersion.known ? engineVersion.from : engine.from);
  }
  return rows;
}
