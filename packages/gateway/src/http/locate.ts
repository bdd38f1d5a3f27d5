import type { RouteTenant } from '@bridgekeeper/control/api';
import { TENANT_HEADER } from '@bridgekeeper/server/edge';
import type { Fleet, Replica } from '../fleet.ts';

/** Things that replicas keep, whose homes are remembered. */
const REMEMBERED_MAX = 2 ** 16;
/** Replicas that are asked for one thing. */
const SEARCHED_MAX = 64;

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
   * first of all that answers 200; null: none has it.
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
    const found = await new Promise<Replica | null>((resolve) => {
      let open = asked.length;
      if (open === 0) resolve(null);
      for (const replica of asked) {
        ask(replica, path, tenant, authorization, (status) => {
          open -= 1;
          if (status === 200) resolve(replica);
          else if (open === 0) resolve(null);
        });
      }
    });
    if (found !== null) this.remember(id, found);
    return found;
  }
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
