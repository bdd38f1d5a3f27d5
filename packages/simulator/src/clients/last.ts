import { SERVER_PORT, type ServerProcess } from '../product/server-process.ts';
import { KEYS } from '../product/settings.ts';
import type { World } from '../product/world.ts';
import { ClientConnection } from './http.ts';
import { expectedTokens } from './oracle.ts';

const REQUEST = { prompt: [1, 2, 3], maxTokens: 4, seed: null, stopTokens: [] };

/** An engine that hangs is started again within it. */
const PATIENCE_NS = 120e9;
const AGAIN_NS = 1e9;

/**
 * One request for each server and key when nobody else asks for anything: whatever takes places in
 * queues, rows or quotas by then has no right to them.
 */
export function askEach(
  world: World,
  until: (limitNs: number, isDone: () => boolean) => boolean,
): void {
  const { loop, judge, network } = world;
  const life = world.newLife('last', 'clients');
  const body = JSON.stringify({
    model: 'story',
    prompt: REQUEST.prompt,
    max_tokens: REQUEST.maxTokens,
    ignore_eos: true,
    return_token_ids: true,
    temperature: 0,
  });
  const expected = expectedTokens(REQUEST).join();
  const endNs = loop.nowNs + PATIENCE_NS;
  let left = 0;
  const ask = (server: ServerProcess, key: string) => {
    const { host } = server;
    const connection = new ClientConnection(network, life, host, SERVER_PORT);
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
    let status = 0;
    let text = '';
    const answered = (said: string) => {
      connection.close();
      // An engine that hung at the last is found out by whoever asks next; what it was given keeps
      // its place in the key's quota until then.
      const isHeld = status === 429 && server.trouble.isHanging;
      if ((status === 503 || isHeld) && loop.nowNs < endNs) {
        life.at(loop.nowNs + AGAIN_NS, () => ask(server, key));
        return;
      }
      left -= 1;
      judge.require(
        said === expected,
        'live',
        () => `${host} is idle, and answers ${key} with ${said}, not ${expected}`,
      );
    };
    connection.send('POST', '/v1/completions', headers, body, {
      head: (head) => {
        status = head.status;
      },
      body: (part) => {
        text += part;
      },
      end: () => answered(status === 200 ? tokensOf(text) : `status ${status}: ${text}`),
      lost: (code) => answered(code),
      broken: (what) => answered(what),
    });
  };
  for (const server of world.servers) {
    for (const key of KEYS) {
      left += 1;
      life.at(loop.nowNs, () => ask(server, key));
    }
  }
  if (!until(2 * PATIENCE_NS, () => left === 0) && judge.violations.length === 0) {
    judge.violated('live', 'a server is idle, and does not answer');
  }
}

function tokensOf(text: string): string {
  const { choices } = JSON.parse(text) as { choices: readonly { token_ids: readonly number[] }[] };
  return choices.flatMap(({ token_ids: ids }) => ids).join();
}
