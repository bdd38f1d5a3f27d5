import { type ContractCase, contractCases, type Device } from '@bridgekeeper/device';
import { type EngineConfig, openDevice } from '@bridgekeeper/server';

/** What became of one contract case. */
export interface CaseResult {
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  /** Why it failed or was skipped. */
  readonly detail: string | undefined;
}

/** `kernels` are the cases that launch some. */
export const CONTRACTS = ['all', 'kernels', 'none'] as const;
export type Contract = (typeof CONTRACTS)[number];

/** Whether `filter`, or one of the texts that it has between bars, is in `name`, in any case. */
export function isIn(filter: string, name: string): boolean {
  const texts = filter.toLowerCase().split('|');
  return texts.some((text) => name.toLowerCase().includes(text));
}

export function chooseCases(contract: Contract, filter: string): readonly ContractCase[] {
  if (contract === 'none') return [];
  return contractCases.filter(
    ({ name, arithmetic }) => (contract === 'all' || arithmetic) && isIn(filter, name),
  );
}

/** Holds the planned device to these cases. Opens it anew where a case closed it. */
export async function runCases(
  config: EngineConfig,
  cases: readonly ContractCase[],
  onCase: (result: CaseResult) => void,
): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  let device = await openDevice(config);
  try {
    for (const contractCase of cases) {
      const result = await runCase(contractCase, device);
      results.push(result);
      onCase(result);
      if (contractCase.closesDevice && result.outcome !== 'skipped') {
        await device.close();
        device = await openDevice(config);
      }
    }
    return results;
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
