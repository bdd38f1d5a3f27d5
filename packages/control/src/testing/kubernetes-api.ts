import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/*
 * A small API server by Kubernetes' public API conventions, as far as guests need it: names that
 * are unique (409), one resourceVersion for everything, lists in pages that can get too old (410),
 * deletion with grace, finalizers and preconditions (409). A scheduler and a kubelet of one node
 * act when time passes.
 */

type Fault = 'refuse' | 'lose-answer' | 'busy' | 'no-json' | 'expire-page' | null;

interface Stored {
  readonly plural: string;
  readonly namespace: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever was posted.
  document: any;
}

const PATH =
  /^\/(?:api\/v1|apis\/resource\.k8s\.io\/v1)\/namespaces\/([^/]+)\/([a-z]+)(?:\/([^/]+))?$/;
const GROUPS: Readonly<Record<string, string>> = {
  pods: '/api/v1',
  secrets: '/api/v1',
  resourceclaims: '/apis/resource.k8s.io/v1',
};
const GRACE_SECONDS = 30;

export async function startKubernetesApi(token: string | null) {
  const objects = new Map<string, Stored>();
  let version = 1000;
  let fault: Fault = null;

  const note = ({ document }: Stored) => {
    version += 1;
    document.metadata.resourceVersion = String(version);
  };
  const drop = (stored: Stored) => {
    objects.delete(keyOf(stored.plural, stored.namespace, stored.document.metadata.name));
    note(stored);
  };

  const list = (response: ServerResponse, plural: string, namespace: string, url: URL) => {
    const selector = url.searchParams.get('labelSelector');
    const limit = Number(url.searchParams.get('limit') ?? 0);
    const token = url.searchParams.get('continue');
    const [from, at] = token === null ? ['', version] : JSON.parse(atob(token));
    if (token !== null && fault === 'expire-page') {
      fault = null;
      refuse(response, 410, 'Expired', 'The provided continue parameter is too old');
      return;
    }
    const all = [...objects.values()]
      .filter((each) => each.plural === plural && each.namespace === namespace)
      .filter(({ document }) => selects(selector, document))
      .map(({ document }) => document)
      .toSorted((one, other) => (one.metadata.name < other.metadata.name ? -1 : 1))
      .filter(({ metadata }) => metadata.name > from);
    const items = limit > 0 ? all.slice(0, limit) : all;
    const isMore = items.length < all.length;
    const next = isMore ? btoa(JSON.stringify([items.at(-1).metadata.name, at])) : undefined;
    answer(response, 200, {
      kind: 'List',
      apiVersion: GROUPS[plural]!.replace(/^\/apis?\//, ''),
      metadata: { resourceVersion: String(at), ...(next && { continue: next }) },
      items,
    });
  };

  const create = (
    response: ServerResponse,
    plural: string,
    namespace: string,
    // biome-ignore lint/suspicious/noExplicitAny: whatever was posted.
    document: any,
  ): void => {
    const name = document?.metadata?.name;
    if (!/^[a-z0-9]([-a-z0-9]{0,251}[a-z0-9])?$/.test(name ?? '')) {
      refuse(response, 422, 'Invalid', `${plural} "${name}" is invalid: metadata.name`);
      return;
    }
    const key = keyOf(plural, namespace, name);
    if (objects.has(key)) {
      refuse(response, 409, 'AlreadyExists', `${plural} "${name}" already exists`);
      return;
    }
    const made = { uid: randomUUID(), creationTimestamp: '2026-01-01T00:00:00Z' };
    const metadata = { ...document.metadata, namespace, ...made };
    const status = plural === 'pods' ? { status: { phase: 'Pending', conditions: [] } } : {};
    const stored = { plural, namespace, document: { ...document, metadata, ...status } };
    objects.set(key, stored);
    note(stored);
    answer(response, 201, stored.document);
  };

  const remove = (
    response: ServerResponse,
    stored: Stored,
    // biome-ignore lint/suspicious/noExplicitAny: whatever was posted.
    options: any,
  ): void => {
    const { metadata } = stored.document;
    const uid = options?.preconditions?.uid;
    if (uid !== undefined && uid !== metadata.uid) {
      refuse(response, 409, 'Conflict', `Precondition failed: UID in precondition: ${uid}`);
      return;
    }
    const seconds = options?.gracePeriodSeconds ?? GRACE_SECONDS;
    const mustWait =
      stored.plural === 'pods' ? seconds > 0 : (metadata.finalizers ?? []).length > 0;
    if (!mustWait) drop(stored);
    else {
      metadata.deletionTimestamp = '2026-01-01T00:01:00Z';
      // Grace only ever gets shorter.
      const before = metadata.deletionGracePeriodSeconds ?? seconds;
      metadata.deletionGracePeriodSeconds = Math.min(before, seconds);
      note(stored);
    }
    answer(response, 200, stored.document);
  };

  const server = createServer(async (request, response) => {
    const document = await bodyOf(request);
    if (token !== null && request.headers.authorization !== `Bearer ${token}`) {
      refuse(response, 401, 'Unauthorized', 'Unauthorized');
      return;
    }
    const url = new URL(request.url ?? '', 'http://kubernetes');
    const [, namespace = '', plural = '', name] = PATH.exec(url.pathname) ?? [];
    if (GROUPS[plural] === undefined || !url.pathname.startsWith(GROUPS[plural])) {
      refuse(response, 404, 'NotFound', 'the server could not find the requested resource');
      return;
    }
    const now = fault;
    if (now !== 'expire-page') fault = null;
    if (now === 'refuse') {
      refuse(response, 403, 'Forbidden', `${plural} is forbidden`);
      return;
    }
    if (now === 'busy') return refuse(response, 429, 'TooManyRequests', 'please try again later');
    if (now === 'no-json') return void response.writeHead(200).end('<html>');
    // It is done, and nobody is told.
    if (now === 'lose-answer') response.writeHead = () => response.destroy() as never;
    const stored = name === undefined ? undefined : objects.get(keyOf(plural, namespace, name));
    if (request.method === 'POST' && name === undefined) {
      create(response, plural, namespace, document);
    } else if (request.method === 'GET' && name === undefined) {
      list(response, plural, namespace, url);
    } else if (stored === undefined) {
      refuse(response, 404, 'NotFound', `${plural} "${name}" not found`);
    } else if (request.method === 'GET') answer(response, 200, stored.document);
    else if (request.method === 'DELETE') remove(response, stored, document);
    else refuse(response, 405, 'MethodNotAllowed', 'the method is not allowed');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  const of = (plural: string) => [...objects.values()].filter((each) => each.plural === plural);
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects: (plural: string) => of(plural).map(({ document }) => document),
    fail: (next: Fault) => {
      fault = next;
    },
    /** Time passes: pods are scheduled once their claim is there, run, and end. */
    settle: () => {
      for (const stored of of('pods')) settlePod(stored, { objects, drop, note });
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

const keyOf = (plural: string, namespace: string, name: string) => `${plural}/${namespace}/${name}`;

/** All pods have one address here: their ports tell them apart. */
const FIRST_PORT = 20_001;

interface Cluster {
  readonly objects: Map<string, Stored>;
  readonly drop: (stored: Stored) => void;
  readonly note: (stored: Stored) => void;
}

function settlePod(stored: Stored, { objects, drop, note }: Cluster): void {
  const { metadata, spec, status } = stored.document;
  const claimName = spec.resourceClaims[0].resourceClaimName;
  const claim = objects.get(keyOf('resourceclaims', stored.namespace, claimName));
  if (metadata.deletionTimestamp !== undefined) {
    drop(stored);
    if (claim === undefined) return;
    claim.document.metadata.finalizers = [];
    if (claim.document.metadata.deletionTimestamp !== undefined) drop(claim);
  } else if (claim === undefined) {
    status.conditions = [
      { type: 'PodScheduled', status: 'False', message: `no claim ${claimName}` },
    ];
    note(stored);
  } else if (status.phase === 'Pending') {
    claim.document.metadata.finalizers = ['resource.kubernetes.io/delete-protection'];
    stored.document.status = {
      phase: 'Running',
      podIP: '127.0.0.1',
      conditions: [{ type: 'Ready', status: 'True' }],
    };
    const others = [...objects.values()].filter(
      ({ document }) => document.status?.phase === 'Running',
    );
    spec.containers[0].ports[0].containerPort = FIRST_PORT + others.length;
    note(stored);
  }
}

/** `name=value`, or several with commas. */
function selects(selector: string | null, document: unknown): boolean {
  const { labels = {} } = (document as { metadata: { labels?: Record<string, string> } }).metadata;
  return (selector ?? '')
    .split(',')
    .filter((term) => term !== '')
    .every((term) => {
      const [name = '', value = ''] = term.split('=');
      return labels[name] === value;
    });
}

function statusOf(code: number, reason: string, message: string): object {
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    reason,
    code,
  };
}

function refuse(response: ServerResponse, code: number, reason: string, message: string): void {
  answer(response, code, statusOf(code, reason, message));
}

function answer(response: ServerResponse, status: number, document: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  if (!response.destroyed) response.end(JSON.stringify(document));
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString('utf8');
  return text === '' ? null : JSON.parse(text);
}
