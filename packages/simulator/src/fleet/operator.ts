import { ClientConnection } from '../clients/http.ts';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import { CONTROL_NAME, CONTROL_PORT } from './control-process.ts';

/** What control answered; null: the connection ended first. */
export interface Answer {
  readonly status: number | null;
  // biome-ignore lint/suspicious/noExplicitAny: as the API has it
  readonly body: any;
}

const ANSWER_NS = 15e9;

/** Who calls control's API with a key. */
export class Operator {
  readonly life: Life;
  readonly #world: World;
  key = '';

  constructor(world: World) {
    this.#world = world;
    this.life = world.newLife('operator', 'operator');
  }

  /** One call, once. */
  call(method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<Answer> {
    const { network, loop } = this.#world;
    const { life } = this;
    return new Promise((resolve) => {
      const connection = new ClientConnection(network, life, CONTROL_NAME, CONTROL_PORT);
      let status: number | null = null;
      let text = '';
      const end = (isWhole: boolean) => {
        connection.close();
        if (!isWhole) resolve({ status: null, body: null });
        else resolve({ status, body: text === '' ? null : JSON.parse(text) });
      };
      life.at(loop.nowNs + ANSWER_NS, () => end(false));
      const headers = {
        authorization: `Bearer ${this.key}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      };
      connection.send(method, path, headers, body === undefined ? '' : JSON.stringify(body), {
        head: (head) => {
          status = head.status;
        },
        body: (part) => {
          text += part;
        },
        end: () => end(true),
        lost: () => end(false),
        broken: () => end(false),
      });
    });
  }

  /** Until it is answered well. */
  async must(method: 'PUT' | 'POST', path: string, body: unknown): Promise<Answer['body']> {
    for (;;) {
      const answer = await this.call(method, path, body);
      if (answer.status === 200) return answer.body;
      this.#world.judge.note(
        `operator: ${method} ${path}: ${answer.status} ${answer.body?.error?.message ?? ''}`,
      );
      await this.sleep(500);
    }
  }

  sleep(ms: number): Promise<void> {
    const { loop } = this.#world;
    return new Promise((resolve) => this.life.at(loop.nowNs + ms * 1e6, resolve));
  }
}
