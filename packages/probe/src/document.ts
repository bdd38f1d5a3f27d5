import type { Profile } from '@bridgekeeper/bridge';
import type { MeasuredRun, ResultDocument } from '@bridgekeeper/report';
import type { ProbeFacts } from './facts.ts';
import { type FittedProfile, fitProfile, type ParameterFit } from './fit/profile.ts';
import type { StepOutcome } from './run.ts';

/** Everything that one probe found: the shape of all results, with the profile that follows. */
export interface ProbeDocument extends ResultDocument {
  readonly suite: 'probe';
  /** False: stopped or refused before everything was measured. */
  readonly isComplete: boolean;
  readonly isQuick: boolean;
  readonly seconds: number;
  readonly facts: ProbeFacts;
  readonly steps: readonly StepOutcome[];
  /** null: too little was measured for one. */
  readonly profile: Profile | null;
  readonly fits: readonly ParameterFit[];
}

/** The law that `runs` show, or null. */
export function fitRuns(
  runs: readonly MeasuredRun[],
  facts: ProbeFacts,
  memoryBytes: number,
): FittedProfile | null {
  // Where it is not known, the more careful answer: what CC forbids is not used.
  const confidential = facts.confidential ?? facts.device === 'cuda';
  const state = confidential ? 'cc' : 'native';
  const law = facts.law === null ? '' : ` under the imposed law ${facts.law}`;
  return fitProfile(runs, {
    name: `${slug(facts.gpu)}-${state}-measured`,
    description: `${facts.gpu} with confidential computing ${confidential ? 'on' : 'off'}${law}`,
    source:
      `Measured by bridgekeeper probe with the host's clock${law}; ` +
      `${facts.confidentialReason}. fp8 is twice bf16, inference. Key rotation was not looked for.`,
    gpu: facts.gpu,
    confidential,
    memoryBytes,
  });
}

function slug(text: string): string {
  const words = text.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  return words.replaceAll(/^-+|-+$/g, '').slice(0, 40) || 'gpu';
}
