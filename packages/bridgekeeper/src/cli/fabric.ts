import type { CliCommand } from './command.ts';
import { FABRIC_ACTIVATE, FABRIC_AGENT, FABRIC_DEACTIVATE } from './fabric-agent.ts';
import { FABRIC_DSTACK } from './fabric-dstack.ts';
import { FABRIC_PLAN } from './fabric-plan.ts';
import { FABRIC_PROBE } from './fabric-probe.ts';
import { FABRIC_REPLAY } from './fabric-replay.ts';
import { FABRIC_SIMULATE } from './fabric-simulate.ts';
import { FABRIC_STATUS, FABRIC_WATCH } from './fabric-status.ts';

/** Each loads what it needs when it runs. */
export const FABRIC: readonly CliCommand[] = [
  FABRIC_STATUS,
  FABRIC_PLAN,
  FABRIC_ACTIVATE,
  FABRIC_DEACTIVATE,
  FABRIC_WATCH,
  FABRIC_REPLAY,
  FABRIC_SIMULATE,
  FABRIC_PROBE,
  FABRIC_AGENT,
  FABRIC_DSTACK,
];
