import type { MadeReport, ReportSubject } from './reporter.ts';

/**
 * What a report under a TEE would leave out: whoever reads that there is a TEE would take prompts
 * to be protected on the GPUs as well. null: nothing, or there is no TEE, which the report says.
 */
export function missingOf(
  { tee, gpu, observed }: Pick<MadeReport, 'tee' | 'gpu' | 'observed'>,
  configuration: ReportSubject['configuration'],
): string | null {
  const served = configuration?.device === 'cuda' ? 1 : 0;
  const gpus = Math.max(served, observed?.gpus.length ?? 0);
  if (tee === 'none' || gpus === 0) return null;
  if (gpu === null || gpu.length < gpus) {
    return `of ${gpus} GPUs, ${gpu?.length ?? 0} give evidence`;
  }
  const state = observed?.confidential ?? null;
  if (state === null) return 'the driver does not say whether the GPUs are confidential';
  if (!state.isOn) return 'confidential computing is off on the GPUs';
  if (state.environment === 'simulation') return 'confidential computing is simulated on the GPUs';
  return state.isDevTools ? 'developer tools are on: the host can look into the GPUs' : null;
}
