import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import { Admission, type AdmissionOptions } from './admission.ts';
import { JoinRequest } from './api/agent.ts';
import { OPERATOR_CALLS } from './api/operator-calls.ts';
import { type Call, GATEWAY_CALLS } from './api/routes.ts';
import { ControlError } from './errors.ts';
import type { Chance, Change } from './fleet/context.ts';
import type { Fleet } from './fleet/fleet.ts';
import { Controller } from './lead/controller.ts';
import type { Term } from './lead/term.ts';
import { ControlMetrics } from './metrics/control-metrics.ts';
import { AGENT_CALLS, agentHandlers, agentOf, JOIN_CALL } from './serve/agents.ts';
import { isDue, makeAuthority, makeServerCertificate, type Pem } from './serve/authority.ts';
import { Frame } from './serve/frame.ts';
import { gatewayHandlers, streamRouting } from './serve/gateway.ts';
import type { CallerId, Handler } from './serve/handlers.ts';
import { JoinTokens } from './serve/join.ts';
import { makeKey, operatorHandlers, type Predict } from './serve/operator.ts';
import { Watch } from './serve/watch.ts';
import { type Database, openStore } from './store/open.ts';
import type { Time } from './time.ts';
import { writeWhole } from './whole-file.ts';

const OPERATOR_BODY_BYTES = 1 << 20;
/** An observation carries reports. */
const AGENT_BODY_BYTES = 16 << 20;
const COMMENT_MS = 5000;
/** Headers of a request have so long to come. */
const HEADERS_MS = 15_000;

export interface ControlOptions {
  /** Where the database and the first keys are. */
  readonly folder: string;
  readonly database: Database;
  readonly listen: { readonly host: string; readonly port: number };
  readonly agents: { readonly host: string; readonly port: number };
  /** By which agents reach it: names and addresses in its certificate. */
  readonly names: readonly string[];
  readonly admission: AdmissionOptions;
  readonly predict: Predict | null;
  /** Answers what is no call of the API: the console. */
  readonly page?: (api: RequestListener) => RequestListener;
  readonly version: string;
  readonly time: Time;
  readonly chance: Chance;
  /** What went wrong and is tried again. */
  readonly onTrouble: (error: ControlError) => void;
  readonly onCrash: (error: unknown) => void;
}

export interface OpenControl {
  readonly url: string;
  readonly agentUrl: string;
  /** Resolves with the first term: before, calls are refused with 503. */
  readonly leads: Promise<void>;
  /** Ends with the last term: rejects if control failed. */
  readonly ended: Promise<void>;
  readonly close: () => Promise<void>;
}

/** Opens the store, leads when it can, and answers. Throws ControlError. */
export async function openControl(options: ControlOptions): Promise<OpenControl> {
  const { folder, database, time, chance, version, onCrash } = options;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const message = `${folder} cannot be made: ${(cause as Error).message}`;
    throw new ControlError('store-unavailable', message, { cause });
  }
  const store = await openStore(folder, database);
  const admission = new Admission(options.admission);
  let current: { term: Term; watch: Watch; tokens: JoinTokens } | null = null;
  const metrics = new ControlMetrics({ term: () => leading(), nowMs: time.nowMs });
  const onTrouble = (error: ControlError) => {
    metrics.troubled(error.code);
    options.onTrouble(error);
  };
  let hasLed = (): void => undefined;
  const leads = new Promise<void>((resolve) => {
    hasLed = resolve;
  });
  const controller = new Controller({
    holder: chance.id('ctl', time.nowMs()),
    store,
    chance,
    time,
    prepare: (fleet) => prepare(fleet, folder, time.nowMs()),
    onTerm: (term) => {
      current?.watch.end();
      const authority = authorityIn(term.fleet);
      const tokens = new JoinTokens(term.fleet.get('secret', 'join')!.value, authority);
      current = { term, watch: new Watch(store, term), tokens };
      metrics.begun(term);
      hasLed();
    },
    // Else they would wait for what another control says now.
    onTermEnd: (term) => {
      if (current?.term === term) current.watch.end();
    },
    onCommit: (term, committed) => {
      metrics.committed(committed);
      if (current?.term === term) current.watch.committed(committed);
    },
    onRound: (seconds) => metrics.reconciled(seconds),
    onTrouble,
  });
  const leading = () => {
    const term = current?.term;
    return term !== undefined && !term.isOver && term.isLeased ? term : null;
  };
  const now = () => {
    const { term } = controller;
    if (current?.term === term) return current;
    throw new ControlError('not-leader', 'this control is about to lead: ask again');
  };
  const nudge = () => controller.nudge();
  const onAnswer = (call: string, code: string) => metrics.answered(call, code);
  const shared = { store, term: () => now().term, version, onCrash, onAnswer };
  const api = new Frame({
    ...shared,
    callerOf: keyCaller(time),
    bodyBytesMax: OPERATOR_BODY_BYTES,
  });
  const agents = new Frame({ ...shared, callerOf: agentOf, bodyBytesMax: AGENT_BODY_BYTES });
  const tokens = {
    make: (host: string, nowMs: number) => now().tokens.make(host, nowMs),
  } as JoinTokens;
  const { predict } = options;
  const context = { store, admission, tokens, chance, nowMs: time.nowMs, predict };
  api.addMetrics(() => metrics.exposition());
  addAll(api, OPERATOR_CALLS, operatorHandlers(context));
  addAll(api, GATEWAY_CALLS, gatewayHandlers(nudge));
  api.addStream(GATEWAY_CALLS.routingEvents, (c, term, query) => {
    const { from } = query as { from?: number };
    return streamRouting(c, term, from, now().watch, time);
  });
  api.addStream(OPERATOR_CALLS.events, (c, term, query) => {
    const { from } = query as { from?: number };
    return streamEvents(c, from ?? term.sequence, now().watch, time);
  });
  const agentContext = { admission, time, nudge, watch: () => now().watch };
  addAll(agents, AGENT_CALLS, agentHandlers({ ...agentContext, tokens: () => now().tokens }));
  agents.app.post(JOIN_CALL.path, async (c) => {
    const request = JoinRequest.safeParse(await c.req.json().catch(() => null));
    if (!request.success) throw new ControlError('bad-request', 'the body is no request to join');
    const { term, tokens: mine } = now();
    return c.json(await mine.join(term, request.data, time.nowMs()));
  });
  const ended = controller.run();
  await Promise.race([leads, ended, time.sleep(FIRST_TERM_MS)]);
  // The certificate is signed by what the store has: it needs a first look at it.
  const contents = await store.load();
  const authorityRow = contents.rows.find(
    ({ kind, id }) => kind === 'secret' && id === 'authority',
  );
  if (authorityRow === undefined) {
    controller.stop();
    await ended.catch(() => undefined);
    await store.close();
    throw new ControlError(
      'store-unavailable',
      'another control leads and has not begun: try again',
    );
  }
  const authority = JSON.parse(JSON.parse(authorityRow.body).value) as Pem;
  const makeCertificate = () => makeServerCertificate(authority, options.names, time.nowMs());
  let certificate = await makeCertificate();
  const { page = (calls) => calls } = options;
  const server = createServer(page(listenerOf(api))).on('clientError', refuseSocket);
  const secureContext = ({ certificate: own, key }: Pem) => ({
    cert: own + authority.certificate,
    key,
    ca: authority.certificate,
    minVersion: 'TLSv1.3' as const,
  });
  const agentServer = createTlsServer(
    { ...secureContext(certificate), requestCert: true, rejectUnauthorized: false },
    listenerOf(agents),
  );
  const closing = new AbortController();
  const renewing = (async () => {
    for (;;) {
      await time.sleep(RENEW_CHECK_MS, closing.signal);
      if (closing.signal.aborted) return;
      if (!isDue(certificate.certificate, time.nowMs())) continue;
      certificate = await makeCertificate();
      agentServer.setSecureContext(secureContext(certificate));
    }
  })();
  for (const each of [server, agentServer]) each.headersTimeout = HEADERS_MS;
  const close = async () => {
    controller.stop();
    closing.abort();
    await renewing;
    current?.watch.end();
    for (const each of [server, agentServer]) {
      each.close();
      each.closeAllConnections();
    }
    await ended.catch(() => undefined);
    await store.close();
  };
  try {
    const url = `http://${await listening(server, options.listen)}`;
    const agentUrl = `https://${await listening(agentServer, options.agents)}`;
    return { url, agentUrl, leads, ended, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** How often the certificate of the listener for agents is looked at. */
const RENEW_CHECK_MS = 600 * 1000;
/** How long the first term may take before the listeners are opened without it. */
const FIRST_TERM_MS = 5000;

/** What a fleet has from the beginning: its secrets, its authority, and the first two keys. */
async function prepare(
  fleet: Fleet,
  folder: string,
  nowMs: number,
): Promise<(change: Change) => void> {
  const authority = fleet.get('secret', 'authority') ? null : await makeAuthority(nowMs);
  return (change) => {
    const secret = (id: string, value: string) => {
      if (change.fleet.get('secret', id) !== undefined) return;
      change.fleet.put('secret', id, { value, madeMs: change.nowMs });
    };
    secret('prefix', change.chance.secret());
    secret('join', change.chance.secret());
    if (authority !== null) secret('authority', JSON.stringify(authority));
    const roles = new Set([...change.fleet.rows('key').values()].map(({ role }) => role));
    for (const role of ['operator', 'gateway'] as const) {
      if (roles.has(role)) continue;
      const label = 'made with this fleet';
      const { key } = makeKey(change, { role, tenant: null, label, notAfterMs: null });
      // Before it is written that there is one: it is made once, and told nowhere else.
      writeWhole(join(folder, `${role}.key`), `${key}\n`);
    }
  };
}

function authorityIn(fleet: Fleet): Pem {
  return JSON.parse(fleet.get('secret', 'authority')!.value) as Pem;
}

function addAll(
  frame: Frame,
  calls: Readonly<Record<string, Call>>,
  handlers: Readonly<Record<string, unknown>>,
): void {
  for (const [name, call] of Object.entries(calls)) {
    const handler = handlers[name];
    if (handler !== null) frame.add(call, handler as Handler<Call>);
  }
}

function keyCaller({ nowMs }: Time) {
  return (c: Context, { fleet }: Term): CallerId => {
    const key = /^Bearer (\S{1,512})$/.exec(c.req.header('authorization') ?? '')?.[1];
    const digest = key && createHash('sha256').update(key).digest('hex');
    const row = digest === undefined ? undefined : fleet.get('key', digest);
    if (row === undefined || (row.notAfterMs !== null && nowMs() >= row.notAfterMs)) {
      const message = 'Authorization: give `Bearer` and a key that control knows';
      throw new ControlError('unauthenticated', message);
    }
    return { role: row.role, tenant: row.tenant, name: row.keyId };
  };
}

/** Rows as operators may see them. */
const HIDDEN: Readonly<Record<string, readonly string[]>> = {
  secret: ['value'],
  replica: ['credential', 'sealedKey'],
  tenant: ['salt'],
};

function streamEvents(c: Context, from: number, watch: Watch, time: Time): Response {
  return streamSSE(c, async (stream) => {
    const gone = new AbortController();
    stream.onAbort(() => gone.abort());
    const events = watch.events(from, (over) =>
      time.sleep(COMMENT_MS, AbortSignal.any([gone.signal, over])),
    );
    for await (const event of events) {
      if (gone.signal.aborted) break;
      if (event === null) {
        await stream.write(':\n\n');
        continue;
      }
      const { body, ...rest } = event;
      const row = body === null ? null : (JSON.parse(body) as Record<string, unknown>);
      for (const name of HIDDEN[event.kind] ?? []) if (row !== null) delete row[name];
      const data = JSON.stringify({ ...rest, row });
      await stream.writeSSE({ event: 'event', id: String(event.sequence), data });
    }
  });
}

function listenerOf(frame: Frame) {
  return getRequestListener(frame.app.fetch, { overrideGlobalObjects: false });
}

function refuseSocket(_: Error, socket: NodeJS.WritableStream & { destroy(): void }): void {
  socket.destroy();
}

function listening(server: Server, { host, port }: { host: string; port: number }) {
  return new Promise<string>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const message = `cannot listen on ${host}:${port} (${cause.code}): give another port`;
      reject(new ControlError('bad-request', message, { cause }));
    });
    server.listen(port, host, () => {
      const address = server.address() as AddressInfo;
      const name = address.family === 'IPv6' ? `[${address.address}]` : address.address;
      resolve(`${name}:${address.port}`);
    });
  });
}
