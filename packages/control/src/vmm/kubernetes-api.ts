import { request as requestHttp } from 'node:http';
import { Agent, request as requestHttps } from 'node:https';
import { z } from 'zod';
import { ControlError } from '../errors.ts';

/** Where a cluster's API is, and by what it is called. */
export interface KubernetesAddress {
  readonly url: string;
  /** Bearer token, read anew for each call: the kubelet replaces it; null: none is needed. */
  readonly token: () => string | null;
  /** Whose certificates are believed, in PEM; null: the system's. */
  readonly authority: string | null;
  /** Ends a call that takes too long. */
  readonly deadline: () => AbortSignal;
}

const ANSWER_BYTES_MAX = 16 << 20;
/** Of one list: more come by its `continue`. */
const PAGE_ROWS = 500;
/** Lists that are begun anew, because what they continued was gone. */
const LISTS_MAX = 3;

const metadata = z.object({
  name: z.string(),
  uid: z.string().default(''),
  labels: z.record(z.string(), z.string()).default({}),
  deletionTimestamp: z.string().nullish(),
});
export const KubernetesObject = z.looseObject({ metadata });
export type KubernetesObject = z.output<typeof KubernetesObject>;

const page = z.object({
  metadata: z.object({ continue: z.string().optional() }).default({}),
  items: z.array(KubernetesObject),
});

/** The kinds that a guest is made of, each in its namespace. */
const PATHS = {
  pod: ['/api/v1', 'pods'],
  secret: ['/api/v1', 'secrets'],
  // Allocation of devices by attributes: generally available since Kubernetes 1.34.
  claim: ['/apis/resource.k8s.io/v1', 'resourceclaims'],
} as const;

export type ObjectKind = keyof typeof PATHS;

/**
 * The few calls of Kubernetes' API that guests need, in one namespace. Lists are consistent reads:
 * what was made before a list began is in it. All throw ControlError 'vmm-unavailable' (no answer,
 * or one that says "later": what was requested may have happened) or 'vmm-refused'.
 */
export class KubernetesApi {
  readonly #address: KubernetesAddress;
  readonly #namespace: string;
  readonly #agent: Agent;

  readonly #pageRows: number;

  constructor(address: KubernetesAddress, namespace: string, pageRows = PAGE_ROWS) {
    this.#address = address;
    this.#namespace = namespace;
    this.#pageRows = pageRows;
    const { authority } = address;
    this.#agent = new Agent({ keepAlive: true, ...(authority === null ? {} : { ca: authority }) });
  }

  /** All objects of a kind with that label, whatever changes meanwhile. */
  async list(kind: ObjectKind, selector: string): Promise<readonly KubernetesObject[]> {
    for (let round = 0; round < LISTS_MAX; round += 1) {
      const all = await this.#listOnce(kind, selector);
      if (all !== null) return all;
    }
    const message = `the list of ${kind}s ended ${LISTS_MAX} times before it was whole`;
    throw new ControlError('vmm-unavailable', message);
  }

  /** False: something has that name already, and is as it was. */
  async create(kind: ObjectKind, document: object): Promise<boolean> {
    const answer = await this.#call('POST', this.#path(kind), document);
    if (answer.status === 409 && answer.reason === 'AlreadyExists') return false;
    demand(answer, `make a ${kind}`);
    return true;
  }

  /**
   * Asks for that very object to be deleted, whatever has its name since. What is gone, or is
   * another one by now, is as it shall be.
   */
  async remove(
    kind: ObjectKind,
    { metadata: { name, uid } }: KubernetesObject,
    graceSeconds: number | null,
  ): Promise<void> {
    const answer = await this.#call('DELETE', `${this.#path(kind)}/${encodeURIComponent(name)}`, {
      apiVersion: 'v1',
      kind: 'DeleteOptions',
      preconditions: { uid },
      ...(graceSeconds === null ? {} : { gracePeriodSeconds: graceSeconds }),
    });
    if (answer.status === 404 || answer.status === 409) return;
    demand(answer, `delete a ${kind}`);
  }

  close(): void {
    this.#agent.destroy();
  }

  #path(kind: ObjectKind): string {
    const [group, plural] = PATHS[kind];
    return `${group}/namespaces/${encodeURIComponent(this.#namespace)}/${plural}`;
  }

  /** Null: what it continued is not kept any more. */
  async #listOnce(kind: ObjectKind, selector: string): Promise<readonly KubernetesObject[] | null> {
    const all: KubernetesObject[] = [];
    let next: string | null = null;
    do {
      const query = new URLSearchParams({ labelSelector: selector, limit: String(this.#pageRows) });
      if (next !== null) query.set('continue', next);
      const answer = await this.#call('GET', `${this.#path(kind)}?${query}`, null);
      if (answer.status === 410) return null;
      demand(answer, `list ${kind}s`);
      const read = page.safeParse(answer.document);
      if (!read.success) {
        throw new ControlError('vmm-refused', `Kubernetes lists ${kind}s as something else`);
      }
      all.push(...read.data.items);
      next = read.data.metadata.continue ?? null;
    } while (next !== null && next !== '');
    return all;
  }

  #call(method: string, path: string, document: object | null): Promise<Answer> {
    const { url, token, deadline } = this.#address;
    const target = new URL(path, url);
    const bearer = token();
    const body = document === null ? null : Buffer.from(JSON.stringify(document));
    const headers = {
      accept: 'application/json',
      // Node frames no body of a DELETE by itself.
      ...(body && { 'content-type': 'application/json', 'content-length': body.length }),
      ...(bearer === null ? {} : { authorization: `Bearer ${bearer}` }),
    };
    const isTls = target.protocol === 'https:';
    return new Promise((resolve, reject) => {
      const unanswered = (cause: Error) => {
        const message = `Kubernetes did not answer ${method} ${target.pathname}: ${cause.message}`;
        reject(new ControlError('vmm-unavailable', message, { cause }));
      };
      const options = { method, headers, signal: deadline() };
      const sent = isTls
        ? requestHttps(target, { ...options, agent: this.#agent })
        : requestHttp(target, options);
      sent.on('error', unanswered);
      sent.on('response', (response) => {
        const parts: Buffer[] = [];
        let bytes = 0;
        response.on('data', (part: Buffer) => {
          bytes += part.length;
          if (bytes > ANSWER_BYTES_MAX) response.destroy(new Error('it answers too much'));
          else parts.push(part);
        });
        response.on('error', unanswered);
        response.on('end', () => {
          resolve(answerOf(response.statusCode ?? 0, Buffer.concat(parts).toString('utf8')));
        });
      });
      sent.end(body ?? undefined);
    });
  }
}

interface Answer {
  readonly status: number;
  /** Of a refusal, in Kubernetes' own words. */
  readonly reason: string;
  readonly message: string;
  readonly document: unknown;
}

const refusal = z.object({ reason: z.string().default(''), message: z.string().default('') });

function answerOf(status: number, text: string): Answer {
  let document: unknown = null;
  try {
    document = JSON.parse(text);
  } catch {
    return { status, reason: '', message: text.slice(0, 200), document };
  }
  const { reason, message } = refusal.catch({ reason: '', message: '' }).parse(document);
  return { status, reason, message: message.slice(0, 300), document };
}

/** Throws ControlError unless it was done. */
function demand({ status, message, document }: Answer, what: string): void {
  if (status >= 200 && status < 300 && document !== null) return;
  // Too many requests, or a server that is not there behind the one that answers.
  const isLater = status === 429 || status >= 500 || status < 300;
  throw new ControlError(
    isLater ? 'vmm-unavailable' : 'vmm-refused',
    `Kubernetes would not ${what} (${status}): ${message}`,
  );
}
