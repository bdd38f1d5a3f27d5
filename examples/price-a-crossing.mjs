// What one copy between VM and GPU costs under each reference profile: a small one and a large one,
// on an idle stream and behind queued work. Pure arithmetic: no GPU, no clock.
//
//   node examples/price-a-crossing.mjs

import {
  FRESH_CHANNEL,
  profileLaw,
  REFERENCE_PROFILE_NAMES,
  referenceProfile,
} from '@bridgekeeper/bridge';

const QUEUED_WORK_NS = 5_000_000; // a decode step that is still running
const TOKENS = { direction: 'd2h', bytes: 256, purpose: 'tokens' };
const WEIGHTS = { direction: 'h2d', bytes: 64 * 2 ** 20, purpose: 'weights' };

/** What crossing takes, and for how long the thread that asked for it is blocked, both in ns. */
function price(law, { direction, bytes, purpose }, queuedNs) {
  const crossing = { direction, bytes, purpose, tenant: 'example', memory: 'pinned' };
  const situation = { issuedNs: 0, streamReadyNs: queuedNs, channel: FRESH_CHANNEL, contexts: 1 };
  const { startedNs, completedNs, issuerFreeNs } = law.schedule(crossing, situation);
  return { takesNs: completedNs - startedNs, blockedNs: issuerFreeNs };
}

const us = (ns) => `${(ns / 1000).toFixed(0)} µs`.padStart(9);
const row = (cells) => console.log(cells.join('  '));

row(['profile        ', '256 B idle', '  queued', ' blocks for', '64 MiB idle', ' GB/s']);
for (const name of REFERENCE_PROFILE_NAMES) {
  const law = profileLaw(referenceProfile(name));
  const idle = price(law, TOKENS, 0);
  const queued = price(law, TOKENS, QUEUED_WORK_NS);
  const large = price(law, WEIGHTS, 0);
  const rate = WEIGHTS.bytes / large.takesNs; // bytes a nanosecond are GB/s
  row([
    name.padEnd(15),
    us(idle.takesNs),
    us(queued.takesNs),
    us(queued.blockedNs),
    us(large.takesNs),
    rate.toFixed(1).padStart(6),
  ]);
}
