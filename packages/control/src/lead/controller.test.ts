import { expect, it } from 'vitest';
import type { ControlError } from '../errors.ts';
import { SqlStore } from '../store/sql-store.ts';
import { openSqlite } from '../store/sqlite.ts';
import { SYSTEM_CHANCE } from '../system.ts';
import { Controller } from './controller.ts';
import type { Term } from './term.ts';

const HOUR_MS = 3600_000;

it('begins a new term once its clock was set back: what it heard it can date no more', async () => {
  const store = await SqlStore.open(openSqlite(':memory:'));
  let nowMs = 1_800_000_000_000;
  const terms: Term[] = [];
  const ended: Term[] = [];
  const troubles: ControlError[] = [];
  let rounds = 0;
  const controller: Controller = new Controller({
    holder: 'one',
    store,
    chance: SYSTEM_CHANCE,
    time: {
      nowMs: () => nowMs,
      // All that is waited for comes in a turn of the loop.
      sleep: (ms) =>
        new Promise((resolve) => {
          setImmediate(() => {
            nowMs += ms;
            resolve();
          });
        }),
    },
    prepare: async () => () => undefined,
    onTerm: (term) => terms.push(term),
    onTermEnd: (term) => ended.push(term),
    onCommit: () => undefined,
    onRound: () => {
      rounds += 1;
      if (rounds === 3) nowMs -= HOUR_MS;
      if (rounds === 6) controller.stop();
    },
    onTrouble: (error) => troubles.push(error),
  });
  await controller.run();
  expect(terms).toHaveLength(2);
  expect(ended).toEqual(terms);
  const [before, after] = terms;
  expect(before!.heard.sinceMs - after!.heard.sinceMs).toBeGreaterThan(HOUR_MS / 2);
  expect(troubles).toMatchObject([{ code: 'not-leader' }]);
  expect(troubles[0]!.message).toMatch(/set back/);
  await store.close();
});
