import { once } from 'node:events';
import { ModelError } from '@bridgekeeper/engine/models';
import { checkRandomModel, type Peer, RANDOM_MODELS } from '@bridgekeeper/engine/selftest';
import { type EngineConfig, engineOptions, openDevice } from '@bridgekeeper/server';
import type { FromModels, ModelResult, ToModels } from './models.ts';
import { TransformersPeer } from './peer.ts';

const send = (message: FromModels) => process.send!(message);

/** Each model has a device of its own, since an engine closes the device that it had. */
async function check(
  config: EngineConfig,
  name: string,
  peer: Peer | undefined,
): Promise<ModelResult> {
  const model = RANDOM_MODELS.find((each) => each.name === name)!;
  const device = await openDevice(config);
  try {
    const found = await checkRandomModel(model, engineOptions(config, device), peer);
    return found;
  } catch (error) {
    const isRefused = error instanceof ModelError && error.code === 'unsupported';
    if (config.ranks > 1 && isRefused) return { name, refused: error.message };
    return { name, error: error instanceof Error ? error.message : `${error}` };
  } finally {
    await device.close();
  }
}

const [{ config, python }] = (await once(process, 'message')) as [ToModels & { kind: 'start' }];
const peer = python === undefined ? undefined : await TransformersPeer.open(python);
const compute: Peer | undefined =
  peer instanceof TransformersPeer
    ? (folder, sequences) => peer.logprobs(folder, sequences)
    : undefined;
process.on('message', async (message: ToModels) => {
  if (message.kind === 'check') {
    send({ kind: 'result', result: await check(config, message.name, compute) });
  }
});
process.once('disconnect', async () => {
  if (peer instanceof TransformersPeer) await peer.close();
});
send({ kind: 'ready', peer: peer instanceof TransformersPeer ? { name: peer.name } : peer });
