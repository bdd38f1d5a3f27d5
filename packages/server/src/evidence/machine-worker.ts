import { parentPort, workerData } from 'node:worker_threads';
import type { MachineObservation } from '@bridgekeeper/attest';
import {
  type CpuEvidence,
  type GpuEvidenceEntry,
  type MachineSources,
  type Sought,
  seekCpuEvidence,
  seekGpuEvidence,
  seekObservation,
} from '@bridgekeeper/attest/node';

/** What the GPUs' side of a machine has to show. */
export interface DeviceEvidence {
  readonly gpu: Sought<readonly GpuEvidenceEntry[]>;
  readonly observation: Sought<MachineObservation>;
}

export type MachineQuestion =
  | { readonly kind: 'devices'; readonly nonce: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'cpu'; readonly reportData: Uint8Array<ArrayBuffer>; readonly entry: string };

export type MachineAnswer = DeviceEvidence | Sought<CpuEvidence>;

const sources = workerData as MachineSources;

async function answerTo(question: MachineQuestion): Promise<MachineAnswer> {
  if (question.kind === 'cpu') {
    return seekCpuEvidence(question.reportData, sources, { entry: question.entry });
  }
  const observation = await seekObservation(sources);
  return { observation, gpu: await seekGpuEvidence(question.nonce, sources) };
}

parentPort!.on('message', async ({ ask, question }: { ask: number; question: MachineQuestion }) => {
  parentPort!.postMessage({ ask, answer: await answerTo(question) });
});
