import { size } from '@bridgekeeper/report';
import type { ProbeDocument } from '../document.ts';

/** What a reader must know before believing the rest. */
export function caveatsOf({ facts, isComplete, isQuick, profile, steps }: ProbeDocument): string[] {
  const stopped = steps.filter(({ outcome }) => outcome === 'stopped');
  const refused = steps.filter(({ outcome }) => outcome === 'refused');
  const caveats: string[] = [];
  if (stopped.length > 0) {
    caveats.push(
      `The probe was stopped: ${stopped.map(({ step }) => step).join(', ')} not measured.`,
    );
  }
  for (const { step, detail } of refused) caveats.push(`Refused: ${step}: ${detail}`);
  if (profile === null) caveats.push('Too little was measured to fit a law: there is no profile.');
  if (facts.law !== null) {
    caveats.push(
      `These are the times of the law ${facts.law}, imposed on the ${facts.device} device, not ` +
        "those of this machine. A law cannot make a crossing faster than the machine's own.",
    );
  }
  if ((facts.otherProcesses ?? 0) > 0) {
    caveats.push(`${facts.otherProcesses} other process(es) used the GPU meanwhile.`);
  }
  if (facts.device === 'cuda' && facts.confidential === null) {
    caveats.push('Whether confidential computing is on is not known; it is taken to be on.');
  }
  if (isQuick && isComplete) caveats.push('A quick probe: fewer sizes, repeats and contexts.');
  return caveats;
}

/** The machine as the probe found it. */
export function machineRows(document: ProbeDocument): (readonly [string, string])[] {
  const { facts, machine, startedAt, seconds, version, command, profile } = document;
  const rows: [string, string | null][] = [
    ['GPU', facts.gpu],
    ['UUID', facts.gpuUuid],
    ['collectives', collectivesOf(document)],
    ['memory', profile === null ? null : size(profile.roofline.memoryBytes)],
    ['driver', facts.driver],
    ['confidential computing', `${onOff(facts.confidential)}: ${facts.confidentialReason}`],
    ['developer tools', facts.devTools === null ? null : onOff(facts.devTools)],
    ['multi-GPU mode', facts.multiGpuMode],
    ['GPUs set ready', facts.gpusReady === null ? null : String(facts.gpusReady)],
    [
      "key rotation, NVML's attacker advantage",
      facts.keyRotationAttackerAdvantage === null
        ? null
        : String(facts.keyRotationAttackerAdvantage),
    ],
    ['imposed law', facts.law],
    ['CPU', `${machine.cpu}, ${machine.cores} cores`],
    ['measured', `${startedAt}, in ${seconds.toFixed(1)} s, by bridgekeeper ${version}`],
    ['command', command],
  ];
  return rows.flatMap(([name, text]) => (text === null ? [] : [[name, text] as const]));
}

/** Of how many GPUs, or why there are none. */
function collectivesOf({ facts, steps }: ProbeDocument): string | null {
  const step = steps.find(({ step: title }) => title === 'collectives');
  if (step?.outcome === 'measured') return `of ${facts.gpus} GPUs`;
  return step?.outcome === 'left-out' ? `not measured: ${step.detail}` : null;
}

const onOff = (value: boolean | null) => (value === null ? 'not known' : value ? 'on' : 'off');
