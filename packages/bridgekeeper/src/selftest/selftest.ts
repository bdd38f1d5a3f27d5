import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  type ContractCase,
  contractCases,
  type Device,
  type DeviceInfo,
} from '@bridgekeeper/device';
import { type GoldenResult, runGolden } from '@bridgekeeper/engine';
import { engineOptions } from '../engine/build.ts';
import { openDevice } from '../engine/open-device.ts';
import type { EnginePlan } from '../engine/plan.ts';

/** What became of one contract case. */
export interface CaseResult {
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it failed or was skipped. */
  readonly detail: string | undefined;
}

export interface SelftestReport {
  readonly device: DeviceInfo;
  readonly cases: readonly CaseResult[];
  /** undefined: the device does no arithmetic, or the model brings no golden.json. */
  readonly golden: readonly GoldenResult[] | undefined;
  readonly passed: boolean;
}

/**
 * Largest relative error of golden logits that an element type may cause. In f32 greedy tokens must
 * agree as well; bf16 rounds away margins that decide them.
 */
const GOLDEN_TOLERANCE = { f32: 1e-4, bf16: 2e-2 } as const;

/**
 * Checks on this machine what the product relies on: the device's contract, then the model's golden
 * results.
 */
export async function selftest(
  plan: EnginePlan,
  onCase: (result: CaseResult) => void,
): Promise<SelftestReport> {
  const cases: CaseResult[] = [];
  let device = await openDevice(plan);
  const { info } = device;
  try {
    for (const contractCase of contractCases) {
      const result = await runCase(contractCase, device);
      cases.push(result);
      onCase(result);
      if (contractCase.closesDevice && result.outcome !== 'skipped') {
        await device.close();
        device = await openDevice(plan);
      }
    }
    const golden = await checkGolden(plan, device);
    const casesPassed = cases.every((result) => result.outcome !== 'failed');
    return { device: info, cases, golden, passed: casesPassed && goldenPassed(golden, info) };
  } finally {
    await device.close();
  }
}

async function runCase(contractCase: ContractCase, device: Device): Promise<CaseResult> {
  const { name } = contractCase;
  if (contractCase.arithmetic && device.info.kind === 'model') {
    return { name, outcome: 'skipped', detail: 'the model device does no arithmetic' };
  }
  try {
    await contractCase.run(device);
    return { name, outcome: 'passed', detail: undefined };
  } catch (error) {
    return { name, outcome: 'failed', detail: error instanceof Error ? error.message : `${error}` };
  }
}

async function checkGolden(
  plan: EnginePlan,
  device: Device,
): Promise<readonly GoldenResult[] | undefined> {
  if (device.info.kind === 'model' || !existsSync(join(plan.model, 'golden.json')))
    return undefined;
  return runGolden(engineOptions(plan, device));
}

function goldenPassed(golden: readonly GoldenResult[] | undefined, info: DeviceInfo): boolean {
  return (golden ?? []).every(
    (result) =>
      result.relativeError <= GOLDEN_TOLERANCE[info.element] &&
      (info.element !== 'f32' || result.greedyAgreed === result.greedyTokens),
  );
}
