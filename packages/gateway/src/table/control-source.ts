import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import {
  type GatewayReport,
  type QuotaShare,
  ReportAnswer,
  RoutingChange,
  RoutingTable,
} from '@bridgekeeper/control/api';
import type { Logger } from '@bridgekeeper/server/edge';
import type { ServerClock } from '@bridgekeeper/server/host-clock';
import { GatewayError } from './errors.ts';
import { EventReader } from './event-reader.ts';
import type { LiveTable } from './live-table.ts';
import type { TableSource } from './source.ts';

/** Control sends a comment every 5 s: without anything for so long, it is gone. */
const SILENT_SECONDS = 20;
const REPORT_SECONDS = 5;
/** How long control may take to answer; where there is another one to ask, less. */
const ANSWER_SECONDS = 15;
const ANSWER_OF_SEVERAL_SECONDS = 4;
const SAVE_SECONDS = 1;
const FIRST_PAUSE_SECONDS = 0.2;
const LONGEST_PAUSE_SECONDS = 5;
const WAKE_SECONDS = 2;
/** Of a control that does not lead, or whose store is away. */
const UNAVAILABLE = 503;
/** Of a report that is older than one of the same name. */
const CONFLICT = 409;
const STATE_BYTES_MAX = 256 * 2 ** 20;
const EVENT_BYTES_MAX = 64 * 2 ** 20;

export interface ControlAddress {
  /** Of each control, of which one leads. */
  readonly urls: readonly string[];
  readonly key: string;
  readonly name: string;
  readonly stateFile: string;
}

export interface ControlParts {
  readonly clock: ServerClock;
  readonly log: Logger;
  readonly table: LiveTable;
  /** What there is to say of this gateway. */
  readonly report: () => GatewayReport;
  /** The table is another than it was. */
  readonly refreshed: () => void;
  /** Which part of the tenants' quotas is this gateway's. */
  readonly shared: (share: QuotaShare) => void;
}

/**
 * The routing table as control has it: its events, one after the other. While control is away the
 * last table holds; it is on disk, for a start meanwhile.
 */
export class ControlSource implements TableSource {
  readonly #address: ControlAddress;
  readonly #parts: ControlParts;
  readonly #closing = new AbortController();
  readonly #stops: (() => void)[] = [];
  readonly #wokenNs = new Map<string, number>();
  #at = 0;
  /** Ends the stream of one that was given up. */
  #leaving = new AbortController();
  #isConnected = false;
  #heardNs: number | null = null;
  #isSaved = true;
  /** Null: nothing is being written. */
  #saving: Promise<void> | null = null;

  private constructor(address: ControlAddress, parts: ControlParts) {
    this.#address = address;
    this.#parts = parts;
  }

  /** Begins with the table on disk, if there is one. Throws GatewayError 'bad-table'. */
  static open(address: ControlAddress, parts: ControlParts): ControlSource {
    const source = new ControlSource(address, parts);
    source.#restore();
    void source.#follow();
    const { clock } = parts;
    source.#stops.push(
      clock.every(REPORT_SECONDS, () => void source.#report()),
      clock.every(SAVE_SECONDS, () => source.#save()),
    );
    return source;
  }

  get heardNs(): number | null {
    return this.#heardNs;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    for (const stop of this.#stops) stop();
    await this.#saving;
  }

  /** Asks for a replica of a pool that has none; once in a while, however often it is called. */
  wake(pool: string): void {
    const { clock, log } = this.#parts;
    const nowNs = clock.nowNs();
    const lastNs = this.#wokenNs.get(pool) ?? Number.NEGATIVE_INFINITY;
    if (nowNs - lastNs < WAKE_SECONDS * 1e9) return;
    this.#wokenNs.set(pool, nowNs);
    const path = `/v1/pools/${encodeURIComponent(pool)}/wake`;
    void this.#post(path).catch(() => log.warn(`could not wake pool ${pool}`));
  }

  async #follow(): Promise<void> {
    const { clock, log } = this.#parts;
    let pauseSeconds = FIRST_PAUSE_SECONDS;
    while (!this.#closing.signal.aborted) {
      try {
        await this.#listen(() => {
          pauseSeconds = FIRST_PAUSE_SECONDS;
        });
      } catch (error) {
        if (this.#closing.signal.aborted) return;
        const reason = error instanceof GatewayError ? error.message : 'the connection ended';
        if (this.#isConnected || pauseSeconds === FIRST_PAUSE_SECONDS) {
          log.warn(`control: ${reason}; the last routes hold`);
        }
      }
      this.#isConnected = false;
      await clock.sleepUntilNs(clock.nowNs() + pauseSeconds * 1e9);
      pauseSeconds = Math.min(LONGEST_PAUSE_SECONDS, pauseSeconds * 2);
    }
  }

  /** Follows one stream of events to its end. */
  async #listen(heard: () => void): Promise<void> {
    const { clock, log, table } = this.#parts;
    const stop = new AbortController();
    const at = this.#at;
    const { signal: left } = this.#leaving;
    const leave = () => stop.abort();
    left.addEventListener('abort', leave);
    // The connection may have ended among changes of one sequence: they come once more.
    const from = table.sequence === null ? '' : `?from=${Math.max(0, table.sequence - 1)}`;
    const path = `/v1/routing/events${from}`;
    let lastNs = clock.nowNs();
    const stopWatching = clock.every(SILENT_SECONDS / 4, () => {
      if (clock.nowNs() - lastNs <= SILENT_SECONDS * 1e9) return;
      this.#turn(at);
      stop.abort();
    });
    try {
      const response = await this.#call(path, { headers: { accept: 'text/event-stream' } }, stop);
      if (response.body === null) throw new GatewayError('no-control', 'it answers nothing');
      const events = new EventReader(EVENT_BYTES_MAX);
      for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
        lastNs = clock.nowNs();
        this.#heardNs = lastNs;
        if (!this.#isConnected) {
          log.info('following the routes of control');
          this.#isConnected = true;
          // At once: control divides the tenants' quotas among those that it knows.
          void this.#report();
        }
        heard();
        let isChanged = false;
        for (const { event, data } of events.push(bytes)) {
          isChanged = this.#take(event, data) || isChanged;
        }
        if (isChanged) {
          this.#isSaved = false;
          this.#parts.refreshed();
        }
      }
    } finally {
      stopWatching();
      left.removeEventListener('abort', leave);
      stop.abort();
    }
  }

  /** Whether the table is another one. Throws GatewayError 'bad-table'. */
  #take(event: string, data: string): boolean {
    const { log, table } = this.#parts;
    if (event === 'table') {
      const applied = table.replace(readAs(RoutingTable, data));
      if (applied === 'old') {
        log.warn('control has an older table of routes than this gateway: it is not taken');
      }
      return applied === 'applied';
    }
    if (event !== 'change') return false;
    return table.change(readAs(RoutingChange, data)) === 'applied';
  }

  async #call(path: string, init: RequestInit, stop: AbortController): Promise<Response> {
    const { urls, key } = this.#address;
    const at = this.#at;
    const url = urls[at]!;
    const signal = AbortSignal.any([this.#closing.signal, stop.signal]);
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${key}` };
    const target = new URL(path, url);
    const response = await fetch(target, { ...init, headers, signal, redirect: 'error' }).catch(
      (cause: unknown) => {
        this.#turn(at);
        throw new GatewayError('no-control', `${url} cannot be reached`, { cause });
      },
    );
    if (response.ok) return response;
    await response.body?.cancel();
    if (response.status === UNAVAILABLE) this.#turn(at);
    const { status } = response;
    throw new GatewayError('no-control', `${url}${path}: status ${status}`, { status });
  }

  /** Asks the next one from now on, if this one was asked until now. */
  #turn(at: number): void {
    const { urls } = this.#address;
    if (at !== this.#at || urls.length < 2 || this.#closing.signal.aborted) return;
    this.#at = (at + 1) % urls.length;
    const leaving = this.#leaving;
    this.#leaving = new AbortController();
    leaving.abort();
  }

  /** What control does not answer in time, it is not asked any longer. */
  async #post(path: string, body?: string): Promise<string> {
    const isOne = this.#address.urls.length === 1;
    const stop = new AbortController();
    const seconds = isOne ? ANSWER_SECONDS : ANSWER_OF_SEVERAL_SECONDS;
    const unset = this.#parts.clock.after(seconds, () => stop.abort());
    try {
      const init =
        body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body };
      return await (await this.#call(path, { method: 'POST', ...init }, stop)).text();
    } finally {
      unset();
    }
  }

  async #report(): Promise<void> {
    if (!this.#isConnected) return;
    const { report, shared, log } = this.#parts;
    try {
      const answer = await this.#post('/v1/gateways/report', JSON.stringify(report()));
      const { share } = readAs(ReportAnswer, answer);
      if (share !== null) shared(share);
    } catch (error) {
      // The next one says all that this one said.
      if (!(error instanceof GatewayError) || error.status !== CONFLICT) return;
      log.warn(`another gateway calls itself ${this.#address.name}: give each its own --name`);
    }
  }

  #restore(): void {
    const { log, table } = this.#parts;
    const { stateFile } = this.#address;
    let text: string;
    try {
      text = readFileSync(stateFile, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw new GatewayError('bad-table', `cannot read ${stateFile}`, { cause: error });
    }
    if (text.length > STATE_BYTES_MAX) throw new GatewayError('bad-table', `${stateFile} is huge`);
    table.replace(readAs(RoutingTable, text, stateFile));
    this.#parts.refreshed();
    log.info(`routes ${table.sequence} of ${stateFile} hold until control is heard`);
  }

  /** Writes the table where the next start finds it: whole, or not at all. */
  #save(): void {
    if (this.#isSaved || this.#saving !== null) return;
    this.#saving = this.#write().finally(() => {
      this.#saving = null;
    });
  }

  async #write(): Promise<void> {
    const { log, table } = this.#parts;
    const { stateFile } = this.#address;
    this.#isSaved = true;
    try {
      const next = `${stateFile}.next`;
      // It holds keys of replicas.
      await writeFile(next, JSON.stringify(table.snapshot()), { mode: 0o600, flush: true });
      await rename(next, stateFile);
    } catch (error) {
      this.#isSaved = false;
      log.warn(`cannot keep the routes: ${(error as NodeJS.ErrnoException).code}`);
    }
  }
}

function readAs<T>(
  schema: { safeParse(value: unknown): { success: boolean; data?: T | undefined } },
  text: string,
  where = 'control',
): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new GatewayError('bad-table', `${where}: this is not JSON`);
  }
  const read = schema.safeParse(value);
  if (read.success) return read.data!;
  throw new GatewayError('bad-table', `${where}: this is no table of routes of this version`);
}
