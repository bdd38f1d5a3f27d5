import { attentionCases } from './attention-cases.ts';
import { branchCases } from './branch-cases.ts';
import type { ContractCase } from './case.ts';
import { collectiveCases } from './collective-cases.ts';
import { deltaNetCases } from './delta-net-cases.ts';
import { expertCases } from './expert-cases.ts';
import { grammarCases } from './grammar-cases.ts';
import { int4Cases } from './int4-cases.ts';
import { latentCases } from './latent-cases.ts';
import { layerCases } from './layer-cases.ts';
import { linearCases } from './linear-cases.ts';
import { loadCases } from './load-cases.ts';
import { memoryCases } from './memory-cases.ts';
import { pageCases } from './page-cases.ts';
import { rowCases } from './row-cases.ts';
import { samplingCases } from './sampling-cases.ts';
import { speculationCases } from './speculation-cases.ts';
import { streamCases } from './stream-cases.ts';

export type { ContractCase } from './case.ts';

/** Everything a device promises. Cases that close the device come last. */
export const contractCases: readonly ContractCase[] = [
  ...memoryCases,
  ...streamCases,
  ...rowCases,
  ...layerCases,
  ...pageCases,
  ...loadCases,
  ...int4Cases,
  ...linearCases,
  ...attentionCases,
  ...latentCases,
  ...expertCases,
  ...branchCases,
  ...deltaNetCases,
  ...collectiveCases,
  ...samplingCases,
  ...speculationCases,
  ...grammarCases,
].sort((a, b) => Number(a.closesDevice) - Number(b.closesDevice));
