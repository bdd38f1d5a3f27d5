// Conversations with a model that has delta nets: what their first tokens take with prefix caching
// and without, turn by turn, where all users share a system prompt:
// node docs/results/families/hybrid-prefixes.mjs <model folder> <law> [users,...] [device] [few,...]
// Of more than one user also with few snapshots (--state-snapshots).
const [model, law, users = '1,16', deviceName = 'model', few = ''] = process.argv.slice(2);
const P = process.env.PACKAGES ?? new URL('../../../packages', import.meta.url);
const server = await import(`${P}/server/dist/index.js`);
const { createEngine, GREEDY } = await import(`${P}/engine/dist/index.js`);
const TURNS = 8;
/** Tokens of what all begin with, of what a user says, and of an answer. */
const [SYSTEM, SAID, ANSWER] = [3000, 300, 400];
/** Users begin one after the other. */
const APART_NS = 1e9;

const text = (of, length) =>
  Array.from({ length }, (_, at) => 1000 + ((of * 7919 + at * 104729) % 100_000));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const rounded = (value) => Math.round(value * 10) / 10;

async function play(enablePrefixCaching, many, stateSnapshots) {
  const settings = server.settingsWith({
    model,
    loadFormat: 'dummy',
    device: deviceName,
    law,
    enablePrefixCaching,
    ...(stateSnapshots === undefined ? {} : { stateSnapshots }),
    maxNumSeqs: 64,
    maxModelLen: 32_768,
  });
  const config = server.configureEngine(settings, { mode: 'off' });
  const device = await server.openDevice(config);
  const said = [];
  const onModel = (lines) => said.push(...lines);
  const engine = await createEngine({ ...server.engineOptions(config, device), onModel });
  const ask = (id, promptTokens) =>
    new Promise((resolve) => {
      const tokens = [];
      const sampling = { ...GREEDY, maxTokens: ANSWER };
      const request = { id, tenant: 'one', promptTokens: Uint32Array.from(promptTokens), sampling };
      engine.submit(request, (event) => {
        tokens.push(...event.tokens);
        if (event.finish !== undefined) resolve({ tokens, finish: event.finish });
      });
    });
  const startNs = device.clock.nowNs();
  const turns = Array.from({ length: TURNS }, () => ({ ttftMs: [], cached: [], prompt: [] }));
  const converse = async (user) => {
    await device.clock.sleepUntilNs(startNs + user * APART_NS);
    let prompt = text(0, SYSTEM);
    for (const [turn, seen] of turns.entries()) {
      prompt = [...prompt, ...text(1 + user * TURNS + turn, SAID)];
      const { tokens, finish } = await ask(`${user} ${turn}`, prompt);
      seen.ttftMs.push((finish.timing.queuedNs + finish.timing.prefillNs) / 1e6);
      seen.cached.push(finish.cachedTokens);
      seen.prompt.push(prompt.length);
      prompt = [...prompt, ...tokens];
    }
  };
  await Promise.all(Array.from({ length: many }, (_, user) => converse(user)));
  const seconds = (device.clock.nowNs() - startNs) / 1e9;
  const stats = engine.stats();
  const { promptTokens, prefixHitTokens, steps, preemptions } = stats;
  const { snapshots, snapshotBytes, kvBytes, kvTokens } = engine.card.memory;
  await engine.shutdown(0);
  return {
    prefixCaching: enablePrefixCaching,
    users: many,
    turns: turns.map(({ ttftMs, cached, prompt }) => ({
      promptTokens: prompt[0],
      cachedTokensMean: Math.round(mean(cached)),
      ttftMsMean: rounded(mean(ttftMs)),
      ttftMsMost: rounded(Math.max(...ttftMs)),
    })),
    seconds: rounded(seconds),
    computedPromptTokens: promptTokens,
    prefixHitTokens,
    steps,
    preemptions,
    snapshots: stats.snapshots,
    memory: { snapshots, snapshotBytes, kvBytes, kvTokens },
    said: said.at(-1),
    device: device.info.name,
  };
}

const runs = [];
for (const many of users.split(',').map(Number)) {
  for (const caching of [false, true]) runs.push(await play(caching, many));
  const fewer = many === 1 ? [] : few.split(',').filter((text) => text !== '');
  for (const count of fewer) runs.push(await play(true, many, Number(count)));
}
console.log(JSON.stringify({ turns: TURNS, tokens: { SYSTEM, SAID, ANSWER }, law, runs }, null, 1));
