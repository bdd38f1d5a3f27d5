import type { RouteTenant } from '@bridgekeeper/control/api';
import { ApiError, TENANT_HEADER } from '@bridgekeeper/server/edge';
import type { Fleet, Replica } from '../fleet.ts';

/** Things that replicas keep, whose homes are remembered. */
const REMEMBERED_MAX = 2 ** 16;
/** Replicas that are asked for one thing. */
const SEARCHED_MAX = 64;
/** What stopped a replica may be over by then. */
const RETRY_AFTER_SECONDS = 5;

/** Finds the replica that keeps a receipt or a response. */
export class Homes {
  readonly #fleet: Fleet;
  readonly #known = new Map<string, Replica>();

  constructor(fleet: Fleet) {
    this.#fleet = fleet;
  }

  remember(id: string, replica: Replica): void {
    this.#known.delete(id);
    this.#known.set(id, replica);
    if (this.#known.size <= REMEMBERED_MAX) return;
    const [oldest] = this.#known.keys();
    this.#known.delete(oldest!);
  }

  /**
   * The replica that has what is at `path` for this tenant: the one that is remembered, or the
   * first of all that answers 200; null: none has it. Throws ApiError `no_replica` where one that
   * may have it does not say.
   */
  async find(
    id: string,
    path: string,
    tenant: RouteTenant,
    authorization: string | null,
  ): Promise<Replica | null> {
    const keepers = this.#fleet.keepersFor(tenant);
    const known = this.#known.get(id);
    if (known !== undefined && keepers.includes(known)) return known;
    const asked = keepers.slice(0, SEARCHED_MAX);
    const found = await new Promise<Replica | null>((resolve, reject) => {
      let open = asked.length;
      let areSure = true;
      if (open === 0) resolve(null);
      for (const replica of asked) {
        ask(replica, path, tenant, authorization, (status) => {
          open -= 1;
          areSure &&= saysNo(status);
          if (status === 200) resolve(replica);
          else if (open === 0 && areSure) resolve(null);
          else if (open === 0) reject(unanswered());
        });
      }
    });
    if (found !== null) this.remember(id, found);
    return found;
  }
}

/**
 * Whether it answered that it keeps no such thing for who asks. One that is away, is busy or cannot
 * read what it keeps has not: who is told that there is none does not ask again.
 */
const saysNo = (status: number | null) =>
  status !== null && status >= 400 && status < 500 && status !== 429;

function unanswered(): ApiError {
  const message = 'A replica that may keep this does not say whether it does: ask again.';
  return new ApiError('no_replica', message, undefined, { retryAfterSeconds: RETRY_AFTER_SECONDS });
}

/** Asks a replica for something and tells the status; null: there was no answer. */
function ask(
  { route, authority, connections }: Replica,
  path: string,
  { tenant }: RouteTenant,
  authorization: string | null,
  answered: (status: number | null) => void,
): void {
  const key = route.credential === null ? authorization : `Bearer ${route.credential}`;
  const lines = [
    `GET ${path} HTTP/1.1`,
    `host: ${authority}`,
    ...(key === null ? [] : [`authorization: ${key}`]),
    ...(route.credential === null ? [] : [`${TENANT_HEADER}: ${tenant}`]),
  ];
  const connection = connections.take(true);
  let status: number | null = null;
  connection.send(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), false, {
    head: (head) => {
      status = head.status;
      answered(status);
      // Its content is for the client, who is sent there.
      connection.abandon();
    },
    body: () => undefined,
    end: () => undefined,
    failed: () => answered(null),
  });
}
