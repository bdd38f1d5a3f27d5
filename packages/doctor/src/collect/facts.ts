import type { Settings } from '@bridgekeeper/server';
import { parallelGpus } from '../command/queries.ts';
import { type Facts, type GpuKind, known, unknown } from '../facts.ts';
import type { Version } from '../version.ts';
import { type EngineFacts, readPlannedEngine, readRunningEngine } from './engine.ts';
import { readGpus } from './gpus.ts';
import { readMachine } from './machine.ts';

/** What to look at, and what to take as given. */
export interface DoctorRequest {
  readonly settings: Settings;
  readonly engineCommand?: string;
  readonly pid?: number;
  readonly engineVersion?: Version;
  /** Variables the engine will have besides those in its command. */
  readonly engineVariables: ReadonlyMap<string, string>;
  readonly assumeConfidential?: boolean;
  readonly assumeGpu?: GpuKind;
}

export interface Collected {
  readonly facts: Facts;
  readonly notes: readonly string[];
}

const NO_ENGINE = 'no engine was given (--engine-command or --pid)';
const ELSEWHERE = 'the command is planned for another machine (--assume-cc, --assume-gpu)';

/** Collects every fact that can be had. Throws CommandError for an engine that cannot be read. */
export function collectFacts(request: DoctorRequest): Collected {
  const { pid } = request;
  const { notes, ...engine } = engineFacts(request);
  const own = pid === undefined ? {} : { pid };
  // A plan for another machine is not judged by this one's CPU, memory and GPUs.
  const planned = request.assumeConfidential !== undefined || request.assumeGpu !== undefined;
  const facts: Facts = {
    ...(planned && pid === undefined ? ELSEWHERE_FACTS : { ...readMachine(own), ...readGpus(own) }),
    ...engine,
    ...assumptions(request, engine.engine),
    settings: known(request.settings, 'the command line, environment and files'),
  };
  return { facts, notes: facts.confidential.known ? notes : [...notes, NO_STATE] };
}

const NO_STATE =
  'whether confidential computing is on is not known: say it with --assume-cc on or off';

const elsewhere = unknown(ELSEWHERE);

const ELSEWHERE_FACTS: Omit<Facts, 'engine' | 'engineVersion' | 'settings'> = {
  confidential: elsewhere,
  confidentialSettings: elsewhere,
  gpusReady: elsewhere,
  keyRotationAttackerAdvantage: elsewhere,
  driverVersion: elsewhere,
  gpuKind: elsewhere,
  gpuCount: elsewhere,
  persistence: elsewhere,
  mig: elsewhere,
  gpuProcesses: elsewhere,
  guest: elsewhere,
  cpuFlags: elsewhere,
  memlockBytes: elsewhere,
  transparentHugepages: elsewhere,
  swapBytes: elsewhere,
  memoryBytes: elsewhere,
};

function engineFacts({
  engineCommand,
  engineVariables,
  engineVersion,
  pid,
}: DoctorRequest): EngineFacts {
  const given = engineVersion === undefined ? null : known(engineVersion, '--engine-version');
  if (engineCommand === undefined && pid === undefined) {
    return { engine: unknown(NO_ENGINE), engineVersion: given ?? unknown(NO_ENGINE), notes: [] };
  }
  const facts =
    pid === undefined ? readPlannedEngine(engineCommand!, engineVariables) : readRunningEngine(pid);
  return given === null ? facts : { ...facts, engineVersion: given };
}

function assumptions(request: DoctorRequest, engine: Facts['engine']): Partial<Facts> {
  const { assumeConfidential, assumeGpu } = request;
  return {
    ...(assumeConfidential !== undefined && {
      confidential: known(assumeConfidential, '--assume-cc'),
    }),
    ...(assumeGpu !== undefined && {
      gpuKind: known(assumeGpu, '--assume-gpu'),
      ...(engine.known && { gpuCount: known(parallelGpus(engine.value), 'the engine’s command') }),
    }),
  };
}
