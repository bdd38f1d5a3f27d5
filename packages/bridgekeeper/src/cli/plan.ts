import { flag, onOff } from '@bridgekeeper/server';
import { OBSERVE_FLAGS, PLAN_FLAGS } from '../plan/flags.ts';
import type { CliCommand } from './command.ts';

const PLAN: CliCommand<typeof PLAN_FLAGS> = {
  name: 'plan',
  summary: 'predict what a load will pay on a GPU, with each engine and step policy',
  flags: PLAN_FLAGS,
  async run(resolved, io) {
    // Loaded when it is needed: it brings the engine.
    const { runPlan } = await import('../plan/run.ts');
    return runPlan(resolved, io);
  },
};

const OBSERVE: CliCommand<typeof OBSERVE_FLAGS> = {
  name: 'plan observe',
  summary: 'measure the steps of a running server, and say what a prediction leaves unexplained',
  flags: OBSERVE_FLAGS,
  async run({ values }, io) {
    const { runObserve } = await import('../plan/observe.ts');
    return runObserve(values, io);
  },
};

const VALIDATE_FLAGS = { json: flag(onOff(), false, 'as one JSON document') };

const VALIDATE: CliCommand<typeof VALIDATE_FLAGS> = {
  name: 'plan validate',
  summary: 'predict every number that was published, and say where predictions are off',
  flags: VALIDATE_FLAGS,
  async run({ values }, io) {
    const { validate, validationLines } = await import('@bridgekeeper/planner');
    const validated = await validate(({ case: { title } }) => io.redraw?.(title));
    io.redraw?.('');
    io.out(
      values.json ? JSON.stringify(validated, null, 1) : validationLines(validated).join('\n'),
    );
    return 0;
  },
};

export const PLAN_COMMANDS: readonly CliCommand[] = [PLAN, OBSERVE, VALIDATE];
