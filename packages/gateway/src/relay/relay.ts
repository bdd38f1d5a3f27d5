import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { RouteTenant } from '@bridgekeeper/control/api';
import { type Admission, ApiError, TENANT_HEADER } from '@bridgekeeper/server/edge';
import type { RouteDigest } from '../choose/digest.ts';
import type { Fleet, Placement, Pool, Replica } from '../fleet.ts';
import type { Exchange, UpstreamConnection } from '../upstream/connection.ts';
import type { BodyPart, ResponseHead, UpstreamFault } from '../upstream/response-reader.ts';
import { type Api, errorBody, errorEvents, hasToken } from './api.ts';
import { countEvents, endOfEvents, isEnd } from './event-cutter.ts';
import { answeredHeaders, REPLICA_HEADER, replicaHeader } from './headers.ts';

/** A request that is to be passed on, whole. */
export interface RelayRequest {
  readonly method: string;
  readonly path: string;
  /** Lines that go on as they are, each with its end. */
  readonly lines: string;
  /** The client's own key, for replicas that take no key of a gateway's. */
  readonly authorization: string | null;
  readonly api: Api;
  readonly id: string;
  readonly tenant: RouteTenant;
  readonly pool: Pool;
  readonly digest: RouteDigest | null;
  readonly only: Replica | null;
  readonly arrivedNs: number;
  /** Headers of every answer to this client. */
  readonly commonHeaders: Readonly<Record<string, string>>;
}

/** A request's body, which counts as memory until it is released. */
export interface HeldBody {
  readonly bytes: Buffer;
  readonly release: () => void;
}

/** How a request ended, for metrics and logs. */
export type RelayOutcome =
  | 'complete'
  /** Answered with an error of ours: no replica did. */
  | 'refused'
  /** The replica was lost in the middle of the answer, and the client told so. */
  | 'lost'
  /** The client left, or did not read. */
  | 'left';

export interface RelayObserver {
  /** A request was given to a replica once more, after `fault`. */
  retried(fault: string): void;
  /** The first byte of an answer left. */
  began(relay: Relay): void;
  ended(relay: Relay, outcome: RelayOutcome): void;
}

export interface RelayParts {
  readonly fleet: Fleet;
  readonly nowNs: () => number;
  readonly observer: RelayObserver;
  readonly limits: RelayLimits;
}

export interface RelayLimits {
  /** Replicas that one request is tried on. */
  readonly attemptsMax: number;
  /** Checks without a byte from the replica. */
  readonly silentChecksMax: number;
  /** Checks for which a client may leave what was written unread. */
  readonly stalledChecksMax: number;
  /** Checks for which a request may wait for a place. */
  readonly waitingChecksMax: number;
}

/** Of an answer that is held until it is whole, so that it can still be asked for elsewhere. */
const WHOLE_BYTES_MAX = 256 * 1024;
/** Of events before the first token, and of one that is not whole yet. */
const HELD_BYTES_MAX = 2 ** 20;

const NO_BYTES = Buffer.alloc(0);

/** How an answer's body is passed on. */
type Mode =
  /** Held until it is whole. */
  | 'whole'
  /** Events, each whole. */
  | 'events'
  /** As it comes. */
  | 'plain';

/** One request and its answer, from a replica to a client. */
export class Relay implements Exchange, Placement {
  readonly request: RelayRequest;
  readonly #response: ServerResponse;
  readonly #parts: RelayParts;
  readonly #admission: Admission | null;
  readonly #bodyBytes: number;
  #body: Buffer;
  /** Called once: when it is sent no more. */
  #releaseBody: () => void;
  readonly #tried = new Set<Replica>();
  #replica: Replica | null = null;
  #connection: UpstreamConnection | null = null;
  #head: ResponseHead | null = null;
  #mode: Mode = 'plain';
  /** Content that is not passed on yet. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #hasToken = false;
  #isOpen = false;
  #isDone = false;
  #isBlocked = false;
  #error: string | null = null;
  /** Of the client, once the answer has begun. */
  #socket: Socket | null = null;
  #events = 0;
  #checksWithout = 0;
  #heard = false;
  sentNs = 0;
  firstByteNs = 0;

  constructor(
    request: RelayRequest,
    body: HeldBody,
    response: ServerResponse,
    admission: Admission | null,
    parts: RelayParts,
  ) {
    this.request = request;
    this.#body = body.bytes;
    this.#bodyBytes = body.bytes.length;
    this.#releaseBody = body.release;
    this.#response = response;
    this.#admission = admission;
    this.#parts = parts;
  }

  get tenant(): string {
    return this.request.tenant.tenant;
  }

  get weight(): number {
    return this.request.tenant.quota.weight;
  }

  get digest(): RouteDigest | null {
    return this.request.digest;
  }

  get only(): Replica | null {
    return this.request.only;
  }

  get tried(): ReadonlySet<Replica> {
    return this.#tried;
  }

  /** Events passed on: about as many as there were tokens, with one token each. */
  get events(): number {
    return this.#events;
  }

  get replica(): Replica | null {
    return this.#replica;
  }

  /** The code of an error of ours that the client was told; null: it was told none. */
  get error(): string | null {
    return this.#error;
  }

  /** Where the answer's receipt will be asked for; null: it has none, as far as is seen. */
  get receiptId(): string | null {
    return this.#head?.headers.find(([name]) => name === 'x-receipt-id')?.[1] ?? null;
  }

  get status(): number | null {
    return this.#head?.status ?? null;
  }

  start(): void {
    this.#response.once('close', this.#left);
    this.#parts.fleet.submit(this.request.pool, this);
  }

  /** To be called at even times: ends what is stuck. */
  check(): void {
    const { silentChecksMax, stalledChecksMax, waitingChecksMax } = this.#parts.limits;
    this.#checksWithout = this.#heard ? 0 : this.#checksWithout + 1;
    this.#heard = false;
    if (this.#replica === null) {
      if (this.#checksWithout <= waitingChecksMax) return;
      const { fleet } = this.#parts;
      fleet.withdraw(this.request.pool, this);
      this.refuse(fleet.lateRefusal(this.request.pool, this));
    } else if (this.#isBlocked) {
      if (this.#checksWithout > stalledChecksMax) this.#cut('left');
    } else if (this.#checksWithout > silentChecksMax) this.#connection?.destroy('stalled');
  }

  /** The gateway stops: what is open is told so. */
  abort(): void {
    if (this.#isDone) return;
    const error = new ApiError('shutting_down', 'The gateway shut down before this was finished.');
    if (!this.#isOpen) {
      this.#parts.fleet.withdraw(this.request.pool, this);
      this.#fail(error, 'refused');
    } else this.#lose(error);
  }

  place(replica: Replica): void {
    this.#replica = replica;
    this.#send(false);
  }

  refuse(error: ApiError): void {
    this.#fail(error, 'refused');
  }

  head(head: ResponseHead): void {
    this.#heard = true;
    this.#head = head;
    const type = head.headers.find(([name]) => name === 'content-type')?.[1] ?? '';
    const isShort = head.bodyBytes !== null && head.bodyBytes <= WHOLE_BYTES_MAX;
    if (head.status >= 400 || isShort) this.#mode = 'whole';
    else this.#mode = /^text\/event-stream\b/i.test(type) ? 'events' : 'plain';
    if (!this.#isGenuine(head)) this.#connection?.destroy('wrong-key');
    else if (this.#mode === 'plain') this.#open();
  }

  body(part: BodyPart): void {
    this.#heard = true;
    if (this.#isDone) return;
    if (this.#mode === 'plain') this.#pass(part);
    else if (this.#mode === 'whole') this.#holdWhole(part);
    else this.#passEvents(part);
  }

  end(): void {
    const replica = this.#replica!;
    this.#connection = null;
    if (this.#isDone) return;
    const { status } = this.#head!;
    if (!this.#isOpen && mayRetry(status, this.#held)) {
      if (status !== 429) replica.failed(`status ${status}`, this.#parts.nowNs());
      if (this.#retry(`status-${status}`)) return;
    } else replica.succeeded();
    if (!this.#isOpen) this.#open();
    this.#flush();
    this.#finish('complete');
    this.#response.end();
  }

  failed(fault: UpstreamFault, isUnanswered: boolean): void {
    const wasReused = this.#connection?.isReused === true;
    this.#connection = null;
    if (this.#isDone) return;
    if (this.#isOpen) {
      this.#replica!.failed(fault, this.#parts.nowNs());
      const message = 'The replica was lost before this answer was finished.';
      this.#lose(new ApiError('replica_lost', message));
      return;
    }
    this.#reset();
    // It may have closed an idle connection just as the request left.
    if (isUnanswered && wasReused && fault === 'closed') {
      this.#parts.observer.retried('idle-closed');
      this.#send(true);
      return;
    }
    this.#replica!.failed(fault, this.#parts.nowNs());
    if (this.#retry(fault)) return;
    const message = 'The replicas that were tried failed before they had answered.';
    this.#fail(new ApiError('replica_failed', message), 'refused');
  }

  #send(isNew: boolean): void {
    const replica = this.#replica!;
    this.#checksWithout = 0;
    this.sentNs = this.#parts.nowNs();
    const connection = replica.connections.take(isNew);
    this.#connection = connection;
    connection.send(this.#encode(replica), this.request.method === 'HEAD', this);
  }

  #encode({ route, authority }: Replica): Buffer {
    const { method, path, lines, id, authorization } = this.request;
    const key = route.credential === null ? authorization : `Bearer ${route.credential}`;
    let head = `${method} ${path} HTTP/1.1\r\nhost: ${authority}\r\n${lines}`;
    head += `x-request-id: ${id}\r\n`;
    if (key !== null) head += `authorization: ${key}\r\n`;
    if (route.credential !== null) head += `${TENANT_HEADER}: ${this.tenant}\r\n`;
    if (method === 'POST' || this.#bodyBytes > 0) head += `content-length: ${this.#bodyBytes}\r\n`;
    return Buffer.concat([Buffer.from(`${head}\r\n`, 'latin1'), this.#body]);
  }

  /** What the replica says it is must be what the table says. */
  #isGenuine({ headers }: ResponseHead): boolean {
    const said = headers.find(([name]) => name === REPLICA_HEADER)?.[1];
    return said === undefined || said === replicaHeader(this.#replica!.route);
  }

  #retry(fault: string): boolean {
    const { fleet, limits, observer } = this.#parts;
    const { pool, only } = this.request;
    const replica = this.#replica!;
    this.#tried.add(replica);
    if (only !== null || this.#tried.size >= limits.attemptsMax) return false;
    if (fleet.candidates(pool, this.#tried).length === 0) return false;
    observer.retried(fault);
    this.#reset();
    this.#replica = null;
    fleet.release(pool, replica, this.digest);
    fleet.submit(pool, this);
    return true;
  }

  #reset(): void {
    this.#held = [];
    this.#heldBytes = 0;
    this.#hasToken = false;
    this.#head = null;
    this.#checksWithout = 0;
  }

  #open(): void {
    this.#isOpen = true;
    this.#dropBody();
    this.firstByteNs = this.#parts.nowNs();
    this.#parts.observer.began(this);
    const { status, headers, bodyBytes } = this.#head!;
    const kept = answeredHeaders(headers);
    // A HEAD's own length stays.
    const length = bodyBytes ?? undefined;
    this.#response.writeHead(status, {
      ...kept,
      ...(length === undefined ? {} : { 'content-length': String(length) }),
      ...this.request.commonHeaders,
      [REPLICA_HEADER]: replicaHeader(this.#replica!.route),
    });
    if (this.#mode !== 'whole') {
      this.#response.socket?.cork();
      this.#response.flushHeaders();
      const { socket } = this.#response;
      process.nextTick(() => socket?.uncork());
      this.#socket = socket;
      socket?.on('drain', this.#drained);
      this.#response.on('drain', this.#drained);
    }
  }

  #holdWhole({ bytes, spans }: BodyPart): void {
    for (let at = 0; at < spans.length; at += 2)
      this.#hold(bytes.subarray(spans[at], spans[at + 1]));
    if (this.#heldBytes > WHOLE_BYTES_MAX) {
      // An error in chunks without an end.
      this.#open();
      this.#flush();
      this.#mode = 'plain';
    }
  }

  #passEvents(part: BodyPart): void {
    const { bytes, spans, from, to } = part;
    const last = spans.at(-1)!;
    const isWhole = this.#heldBytes === 0 && isEnd(bytes, last);
    if (this.#isOpen && isWhole && to > from) {
      for (let at = 0; at < spans.length; at += 2) {
        this.#events += countEvents(bytes, spans[at]!, spans[at + 1]!);
      }
      this.#pass(part);
      return;
    }
    for (let at = 0; at < spans.length; at += 2)
      this.#hold(bytes.subarray(spans[at], spans[at + 1]));
    if (this.#heldBytes > HELD_BYTES_MAX) {
      this.#connection?.destroy('too-large');
      return;
    }
    this.#passHeldEvents();
  }

  /** Passes on the whole events of what is held, once there is a token among them. */
  #passHeldEvents(): void {
    const all = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held);
    const end = endOfEvents(all);
    this.#held = [all];
    if (end === 0) return;
    if (!this.#hasToken) {
      const events = all.toString('utf8', 0, end).split(/\r?\n\r?\n/);
      this.#hasToken = events.some((event) => event !== '' && hasToken(event));
      if (!this.#hasToken) return;
    }
    if (!this.#isOpen) this.#open();
    this.#events += countEvents(all, 0, end);
    const rest = all.subarray(end);
    this.#held = rest.length === 0 ? [] : [rest];
    this.#heldBytes = rest.length;
    this.#write(all.subarray(0, end));
  }

  #hold(bytes: Buffer): void {
    this.#held.push(bytes);
    this.#heldBytes += bytes.length;
  }

  #flush(): void {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    for (const bytes of held) this.#response.write(bytes);
  }

  /** Content as it came, in its own chunks where they can stay as they are. */
  #pass({ bytes, spans, from, to }: BodyPart): void {
    const { socket } = this.#response;
    if (to > from && socket !== null && this.#isChunked) {
      const part = from === 0 && to === bytes.length ? bytes : bytes.subarray(from, to);
      if (!socket.write(part)) this.#block();
      return;
    }
    for (let at = 0; at < spans.length; at += 2)
      this.#write(bytes.subarray(spans[at], spans[at + 1]));
  }

  /** Whether Node writes this answer in chunks: those of the replica are the same then. */
  get #isChunked(): boolean {
    return this.#response.chunkedEncoding;
  }

  #write(content: Buffer): void {
    if (content.length > 0 && !this.#response.write(content)) this.#block();
  }

  #block(): void {
    if (this.#isBlocked) return;
    this.#isBlocked = true;
    this.#checksWithout = 0;
    this.#connection?.pause();
  }

  readonly #drained = (): void => {
    if (!this.#isBlocked) return;
    this.#isBlocked = false;
    this.#heard = true;
    this.#connection?.resume();
  };

  readonly #left = (): void => {
    if (this.#isDone) return;
    if (this.#replica === null) this.#parts.fleet.withdraw(this.request.pool, this);
    this.#finish('left');
  };

  /** An answer that had begun does not go on. */
  #lose(error: ApiError): void {
    this.#error = error.code;
    if (this.#mode !== 'events') {
      this.#cut('lost');
      return;
    }
    const { api, id } = this.request;
    const text = errorEvents(api, error, id, this.#events);
    this.#held = [];
    this.#finish('lost');
    this.#response.end(text);
  }

  /** Ends the connection, so that the client does not take what it has for the whole answer. */
  #cut(outcome: RelayOutcome): void {
    this.#finish(outcome);
    this.#response.socket?.resetAndDestroy();
    this.#response.destroy();
  }

  #fail(error: ApiError, outcome: RelayOutcome): void {
    if (this.#isDone) return;
    this.#error = error.code;
    this.#finish(outcome);
    sendError(this.#response, error, this.request);
  }

  /** An answer that has begun is asked for nowhere else. */
  #dropBody(): void {
    this.#body = NO_BYTES;
    this.#releaseBody();
    this.#releaseBody = () => undefined;
  }

  /** Gives back everything. */
  #finish(outcome: RelayOutcome): void {
    this.#isDone = true;
    const { fleet, observer } = this.#parts;
    const { pool } = this.request;
    this.#dropBody();
    this.#connection?.abandon();
    this.#connection = null;
    this.#response.off('close', this.#left);
    // By now the response may have left it.
    this.#socket?.off('drain', this.#drained);
    this.#admission?.close(this.#events);
    fleet.charge(pool, this.tenant, Math.ceil(this.#bodyBytes / 4), this.#events);
    observer.ended(this, outcome);
    if (this.#replica !== null) fleet.release(pool, this.#replica, this.digest);
  }
}

/** Whether another replica may have a better answer. */
function mayRetry(status: number, held: readonly Buffer[]): boolean {
  if (status === 502 || status === 503) return true;
  if (status !== 429 && status !== 500) return false;
  const body = Buffer.concat(held.slice(0, 4)).toString('utf8', 0, 4096);
  return status === 429 ? body.includes('"queue_full"') : body.includes('"engine_failed"');
}

/** Answers with an error of ours, in the form of the API. */
export function sendError(
  response: ServerResponse,
  error: ApiError,
  { api, id, commonHeaders }: Pick<RelayRequest, 'api' | 'id' | 'commonHeaders'>,
): void {
  if (response.destroyed || response.headersSent) return;
  const body = JSON.stringify(errorBody(api, error, id));
  response.writeHead(error.status, {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    ...commonHeaders,
    ...error.headers,
  });
  response.end(body);
}
