import type { EngineCommand } from '../command/engine-command.ts';
import { splitsTensors, switchState } from '../command/queries.ts';
import type { Verdict } from '../rule.ts';

/** Where the custom all-reduce is on: vLLM and SGLang have it, and the switch, in common. */
export function customAllReduce(engine: EngineCommand): Verdict | null {
  if (!splitsTensors(engine) || switchState(engine, 'disable-custom-all-reduce') === true) {
    return null;
  }
  return {
    evidence: 'no --disable-custom-all-reduce, with tensor parallelism',
    changes: [{ kind: 'switch', name: 'disable-custom-all-reduce', on: true }],
  };
}
