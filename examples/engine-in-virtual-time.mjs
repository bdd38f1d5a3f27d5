// Runs the real engine (scheduler, policies, ledger) on a modelled B300 in virtual time: what each
// step policy makes of the same requests with and without the bridge of confidential computing.
//
//   node examples/engine-in-virtual-time.mjs [model folder]

import { fileURLToPath } from 'node:url';
import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { openModelDevice, VirtualClock } from '@bridgekeeper/device';
import { createEngine, GREEDY } from '@bridgekeeper/engine';

const storyteller = fileURLToPath(new URL('../models/storyteller', import.meta.url));
const [model = storyteller] = process.argv.slice(2);
const REQUESTS = 8;
const PROMPT_TOKENS = 64;
const OUTPUT_TOKENS = 128;

/** Tokens a second, and crossings a token, of one policy under one profile's law. */
async function measure(policy, profile) {
  const { idleTollNs, queuedTollNs } = profile.crossings.d2h.pinned;
  const clock = new VirtualClock();
  clock.runFreely(); // time moves on as soon as everything waits for it
  const device = openModelDevice({ clock, law: profileLaw(profile) });
  const engine = await createEngine({
    device,
    model,
    policy,
    dummy: true, // only config.json is read; the modelled device computes nothing
    quantization: undefined,
    kvFormat: 'element',
    burst: { tollNs: idleTollNs + queuedTollNs, interTokenLimitNs: 50_000_000 },
    maxModelTokens: PROMPT_TOKENS + OUTPUT_TOKENS,
    maxRows: REQUESTS,
    maxBatchTokens: 2048,
    pageTokens: undefined,
    memoryUtilization: 0.9,
    kvBytes: undefined,
    prefixCaching: false,
    chunkedPrefill: true,
    maxWaiting: REQUESTS,
    seed: 0,
  });
  const startedNs = clock.nowNs();
  await Promise.all(Array.from({ length: REQUESTS }, (_, index) => generate(engine, index)));
  const seconds = (clock.nowNs() - startedNs) / 1e9;
  const steps = engine.stats().bridge.totals.filter(({ purpose }) => purpose !== 'weights');
  await engine.shutdown(0);
  const tokens = REQUESTS * OUTPUT_TOKENS;
  const crossings = steps.reduce((sum, total) => sum + total.crossings, 0);
  return { tokensPerSecond: tokens / seconds, crossingsPerToken: crossings / tokens };
}

/** Resolves when the request has ended. */
function generate(engine, index) {
  const promptTokens = Uint32Array.from({ length: PROMPT_TOKENS }, (_, at) => 1 + index + at);
  const sampling = { ...GREEDY, maxTokens: OUTPUT_TOKENS };
  return new Promise((resolve, reject) => {
    engine.submit({ id: `r${index}`, tenant: 'example', promptTokens, sampling }, ({ finish }) => {
      if (finish?.reason === 'error') reject(new Error(finish.message));
      else if (finish !== undefined) resolve();
    });
  });
}

console.log('policy        b300-native tokens/s  b300-cc tokens/s  kept  crossings/token');
for (const policy of ['overlap', 'drain-first', 'drain-worker', 'resident']) {
  const native = await measure(policy, referenceProfile('b300-native'));
  const confidential = await measure(policy, referenceProfile('b300-cc'));
  const kept = (100 * confidential.tokensPerSecond) / native.tokensPerSecond;
  console.log(
    [
      policy.padEnd(12),
      native.tokensPerSecond.toFixed(0).padStart(21),
      confidential.tokensPerSecond.toFixed(0).padStart(17),
      `${kept.toFixed(0)} %`.padStart(5),
      confidential.crossingsPerToken.toFixed(3).padStart(16),
    ].join(' '),
  );
}
