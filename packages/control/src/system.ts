import { randomBytes } from 'node:crypto';
import type { Chance } from './fleet/context.ts';
import type { Time } from './time.ts';

/** The machine's clock and chance: everything else takes them as arguments. */

export const SYSTEM_TIME: Time = {
  nowMs: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      if (signal?.aborted === true) done();
      else signal?.addEventListener('abort', done, { once: true });
    }),
};

export const SYSTEM_CHANCE: Chance = chanceOf((bytes) => randomBytes(bytes));

const DIGITS = '0123456789abcdefghjkmnpqrstvwxyz';
const TIME_DIGITS = 10;
const CHANCE_DIGITS = 16;

/** Ids as ULIDs are made: 48 bits of time, 80 of chance. */
export function chanceOf(draw: (bytes: number) => Uint8Array): Chance {
  return {
    id: (prefix, nowMs) => {
      let time = '';
      let rest = nowMs;
      for (let index = 0; index < TIME_DIGITS; index += 1) {
        time = DIGITS[rest % 32]! + time;
        rest = Math.floor(rest / 32);
      }
      const chance = Array.from(draw(CHANCE_DIGITS), (byte) => DIGITS[byte % 32]!).join('');
      return `${prefix}_${time}${chance}`;
    },
    secret: () => Buffer.from(draw(32)).toString('base64url'),
    nonce: () => Buffer.from(draw(32)).toString('hex'),
  };
}
