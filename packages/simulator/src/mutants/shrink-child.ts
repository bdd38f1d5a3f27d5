import type { AnyFaultName } from '../simulate.ts';
import { plant } from './plant.ts';

/** What a process says of a failure with a bug in the product, as it was and as it is replayed. */
export interface ShrunkFailure {
  readonly invariant: string | null;
  readonly digest: string;
  readonly requests: number;
  readonly faults: readonly string[];
  /** Of the smaller failure; null: it was not asked for. */
  readonly replay: string | null;
}

const [name, seed, requests, faults = '', tries] = process.argv.slice(2);
plant(name);
const { simulate } = await import('../simulate.ts');
const { replayCommand, shrink } = await import('../shrink.ts');
const kinds = (faults === 'none' ? [] : faults.split(',')) as AnyFaultName[];
const result = await simulate({ seed: Number(seed), requests: Number(requests), faults: kinds });
const small = tries === undefined ? null : await shrink(result, Number(tries));
const failure: ShrunkFailure = {
  invariant: result.violations[0]?.invariant ?? null,
  digest: (small?.result ?? result).digest,
  requests: result.requests,
  faults: result.faults,
  replay: small && replayCommand(small),
};
process.stdout.write(`${JSON.stringify(failure)}\n`);
