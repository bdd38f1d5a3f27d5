import type { Mutant } from './mutants.ts';

/** Bugs of a fleet, by the same means. */
export const FLEET_MUTANTS: readonly Mutant[] = [
  {
    name: 'commit-unfenced',
    what: 'the store takes what a leader writes after another has led',
    file: 'control/dist/store/sql-store.js',
    find: 'if (changes === 1)\n        return;',
    replace: 'if (changes >= 0)\n        return;',
    breaks: ['fenced', 'orderly', 'exclusive', 'log-grows'],
  },
  {
    name: 'stale-epoch-taken',
    what: 'an agent takes the words of a leader that was replaced',
    file: 'control/dist/agent/agent.js',
    find: 'if (desired.epoch < last.epoch) {',
    replace: 'if (desired.epoch < last.epoch - 1e6) {',
    breaks: ['fenced', 'exclusive'],
  },
  {
    name: 'failed-commit-acknowledged',
    what: 'a change is acknowledged whose writing has failed',
    file: 'control/dist/lead/term.js',
    find: 'for (const { waiting } of done)\n                    waiting.reject(error);',
    replace:
      'for (const { waiting, result } of done)\n                    waiting.resolve(result);',
    breaks: ['acknowledged', 'live'],
  },
  {
    name: 'claim-released-early',
    what: 'GPUs of a replica are free before its host says that nothing of it is left',
    file: 'control/dist/fleet/replicas.js',
    find: 'const unwantedSequence = command(change, replica.host);',
    replace:
      'const unwantedSequence = command(change, replica.host);\n' +
      '    const { host, modules } = replica;\n' +
      '    for (const module of modules) change.fleet.unclaim({ host, module });',
    breaks: ['exclusive'],
  },
  {
    name: 'begun-twice',
    what: 'a guest that is gone is begun again',
    file: 'control/dist/agent/agent.js',
    find:
      'if (guest !== undefined || this.#hasBegun(each.replica))\n                continue;\n' +
      '            // GPUs of one that is on its way out are not free yet, ' +
      'whatever control thinks.\n' +
      '            const isTaken = this.#memory.begun.some(({ modules }) => ',
    replace:
      'if (guest !== undefined)\n                continue;\n' +
      '            const isTaken = this.#memory.begun.some(({ modules, replica }) => ' +
      'replica !== each.replica && ',
    breaks: ['exclusive'],
  },
  {
    name: 'old-evidence-serves',
    what: 'a replica serves on whose evidence is too old',
    file: 'control/dist/fleet/reconcile.js',
    find: 'if (evidence !== null && nowMs >= evidence.notAfterMs) {',
    replace: 'if (evidence !== null && nowMs >= evidence.notAfterMs + 1e9) {',
    breaks: ['admitted', 'live'],
  },
  {
    name: 'admitted-unasked',
    what: 'a replica serves once it answers, and is asked for evidence later',
    file: 'control/dist/fleet/observe.js',
    find: "toPhase(change, now, 'attesting');",
    replace: "toPhase(change, now, 'warm');",
    breaks: ['admitted', 'live'],
  },
  {
    name: 'rounds-only-when-nudged',
    what: 'what is wanted is looked at only when something is heard of',
    file: 'control/dist/lead/controller.js',
    find: 'await time.sleep(ROUND_MS, nudged.signal);',
    replace: 'await time.sleep(1e9, nudged.signal);',
    breaks: ['live', 'admitted'],
  },
  {
    name: 'quota-one-too-many',
    what: 'a tenant may have one replica more than its GPUs allow',
    file: 'control/dist/fleet/reconcile.js',
    find: 'if (held + spec.gpus <= limit)',
    replace: 'if (held <= limit)',
    breaks: ['quota-kept'],
  },
  {
    name: 'quota-counted-twice',
    what: 'GPUs that a tenant has count twice',
    file: 'control/dist/fleet/reconcile.js',
    find: 'held += modules.length;',
    replace: 'held += 2 * modules.length;',
    breaks: ['live'],
  },
  {
    name: 'drained-at-once',
    what: 'a replica that drains is stopped while it has streams',
    file: 'control/dist/fleet/reconcile.js',
    find: 'mine?.inFlight === 0',
    replace: 'mine !== undefined',
    breaks: ['drained'],
  },
  {
    name: 'routed-while-draining',
    what: 'a gateway gives new requests to replicas that drain',
    file: 'gateway/dist/fleet.js',
    find: "each.route.state === 'serving' &&",
    replace: 'true &&',
    breaks: ['drained'],
  },
  {
    name: 'follower-keeps-connection',
    what: 'a control that does not lead keeps those who ask it',
    file: 'control/dist/serve/frame.js',
    find: "...(code === 'not-leader' ? { Connection: 'close' } : {}),",
    replace: '',
    breaks: ['live'],
  },
  {
    name: 'lost-machine-keeps-lock',
    what: 'a database waits for ever for a machine that is gone in the midst of a change',
    file: 'control/dist/store/postgres.js',
    find: 'export const IDLE_MS = 2000;',
    replace: 'export const IDLE_MS = 2e12;',
    breaks: ['live'],
  },
  {
    name: 'name-not-synced',
    what: 'the name of a file is not on the disk when its contents are',
    file: 'control/dist/whole-file.js',
    find: 'fsyncSync(folder);',
    replace: '',
    breaks: ['exclusive', 'fenced', 'orderly', 'live'],
  },
  {
    name: 'prepared-anew',
    what: 'a guest is begun again whose partition came back with its host',
    file: 'control/dist/agent/agent.js',
    find: "if (guest?.state === 'preparing' && !this.#wasThere(each.replica)) {",
    replace: "if (guest?.state === 'preparing') {",
    breaks: ['exclusive'],
  },
  {
    name: 'warm-keeps-its-gpus',
    what: 'a replica that is not wanted any more, and never served, makes no way',
    file: 'control/dist/fleet/reconcile.js',
    find: 'if (!isServing(now(each)))',
    replace: "if (now(each).phase === 'starting')",
    breaks: ['live'],
  },
  {
    name: 'activated-as-left',
    what: 'a partition is activated with GPUs as the guest before, or Fabric Manager, left them',
    file: 'fabric/dist/tenancy/steps.js',
    find: 'await hands.control.reset(bdf);\n            return { ...tenancy, sanitizedUnder',
    replace: 'void bdf;\n            return { ...tenancy, sanitizedUnder',
    breaks: ['fabric-kept'],
  },
  {
    name: 'released-without-reset',
    what: 'GPUs are released as their last guest left them',
    file: 'fabric/dist/tenancy/steps.js',
    find: 'await hands.control.reset(bdf);\n            return tenancy;',
    replace: 'void bdf;\n            return tenancy;',
    breaks: ['fabric-kept'],
  },
];
