import type { CliCommand } from './command.ts';
import { FABRIC_PLAN } from './fabric-plan.ts';
import { FABRIC_SIMULATE } from './fabric-simulate.ts';

export const FABRIC: readonly CliCommand[] = [FABRIC_PLAN, FABRIC_SIMULATE];
