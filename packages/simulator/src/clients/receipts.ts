import { readSignedReceipt, verifyReceiptChain } from '@bridgekeeper/attest';
import { GATEWAY_HOST, GATEWAY_PORT } from '../product/gateway-process.ts';
import { SERVER_PORT } from '../product/server-process.ts';
import { KEYS, OPERATOR_KEY } from '../product/settings.ts';
import type { World } from '../product/world.ts';
import type { HandedReceipt, Load } from './clients.ts';
import { ClientConnection } from './http.ts';

type Until = (limitNs: number, isDone: () => boolean) => boolean;

export interface ReceiptAudit {
  /** Looks at all of them once nothing fails any more, in some seeds through a loss of power. */
  finish(until: Until): void;
}

const LOOK_NS = 500e6;
const LOOKED_AT_MAX = 15;

/**
 * Asks for receipts again and again: what was shown once is to stay, and to stay the same.
 * `losesPower`: all servers do at the end.
 */
export function collectReceipts(world: World, load: Load, losesPower: boolean): ReceiptAudit {
  const { loop, judge, network } = world;
  const life = world.newLife('auditor', 'clients');
  const get = (
    host: string,
    path: string,
    key: string,
    done: (status: number | null, text: string) => void,
  ) => {
    const isGateway = host === GATEWAY_HOST;
    const port = isGateway ? GATEWAY_PORT : SERVER_PORT;
    const connection = new ClientConnection(network, life, host, port);
    let status = 0;
    let text = '';
    const end = (got: number | null) => {
      connection.close();
      done(got, text);
    };
    connection.send('GET', path, { authorization: `Bearer ${key}` }, '', {
      head: (head) => {
        status = head.status;
      },
      body: (part) => {
        text += part;
      },
      end: () => end(status),
      lost: () => end(null),
      broken: (what) => judge.violated('answers', `a receipt: ${what}`),
    });
  };
  const look = (receipt: HandedReceipt, isFinal: boolean, done: () => void) => {
    const { id, key, host } = receipt;
    // Answers may overtake each other: only what was seen before it is asked for must be there.
    const wasKept = receipt.isKept;
    get(host, `/v1/receipts/${id}`, key, (status, text) => {
      if (status === 200) found(receipt, text);
      else if (status === 404 && wasKept) {
        judge.violated('receipt-kept', `${id} of ${host} was there, and is gone`);
      } else if (status === 404 && isFinal && !isExcused(receipt)) {
        judge.violated('receipt-promised', `${id} of ${host} was handed out, and there is none`);
      } else if (status !== 404 && isFinal) {
        judge.violated('live', `${host} is asked for ${id}, and answers ${status}: ${text}`);
      }
      done();
    });
  };
  const found = (receipt: HandedReceipt, text: string) => {
    const { id, generated, document, isKept } = receipt;
    if (isKept && text !== document) judge.violated('receipt-kept', `${id} is another one now`);
    const { receipt: facts } = readSignedReceipt(text);
    judge.require(
      facts.id === id && facts.tokens.generated === generated,
      'receipt-kept',
      () => `${id} says ${facts.tokens.generated} tokens, and ${generated} came`,
    );
    if (!isKept) judge.reached('receipt seen kept');
    receipt.isKept = true;
    receipt.document = text;
  };
  /** A process may end before a receipt is written, a moment after its answer. */
  const isExcused = ({ host }: HandedReceipt) =>
    world.servers.some((each) => {
      const isIts = each.host === host || host === GATEWAY_HOST;
      return isIts && each.mayLackReceipts;
    });
  const again = () => {
    life.at(loop.nowNs + LOOK_NS, () => {
      if (world.isCalm) return;
      const recent = load.receipts.slice(-10);
      if (recent.length > 0) look(life.random.of(recent), false, () => undefined);
      again();
    });
  };
  again();

  const lookAtAll = (until: Until) => {
    const kept = load.receipts.filter(({ isKept }) => isKept);
    const others = load.receipts.filter(({ isKept }) => !isKept);
    const chosen = [...kept.slice(-LOOKED_AT_MAX), ...others.slice(-LOOKED_AT_MAX)];
    let left = chosen.length;
    life.at(loop.nowNs, () => {
      for (const receipt of chosen) {
        look(receipt, true, () => {
          left -= 1;
        });
      }
    });
    if (!until(60e9, () => left === 0) && judge.violations.length === 0) {
      judge.violated('live', 'receipts were asked for, and no answer came');
    }
  };

  const checkChains = (until: Until) => {
    for (const { host } of world.servers) {
      let isDone = false;
      life.at(loop.nowNs, () => {
        get(host, '/v1/receipts/key', KEYS[0], (keyStatus, keyText) => {
          get(host, '/v1/receipts/links?first=1&count=1000', OPERATOR_KEY, (status, text) => {
            isDone = true;
            if (status !== 200 || keyStatus !== 200) {
              judge.violated('chain-whole', `${host}: status ${keyStatus}, ${status}`);
              return;
            }
            void verifyReceiptChain(JSON.parse(text), [], JSON.parse(keyText).key, null).catch(
              (error: Error) => judge.violated('chain-whole', `${host}: ${error.message}`),
            );
          });
        });
      });
      until(60e9, () => isDone);
    }
  };

  return {
    finish(until) {
      lookAtAll(until);
      checkChains(until);
      if (judge.violations.length > 0 || !losesPower) return;
      for (const server of world.servers) {
        until(60e9, () => server.isUp);
        server.losePower();
      }
      if (!until(120e9, () => world.isUp)) {
        if (judge.violations.length === 0) judge.violated('live', 'no start after the power loss');
        return;
      }
      lookAtAll(until);
      checkChains(until);
    },
  };
}
