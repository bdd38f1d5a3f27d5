import { readFileSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { type GatewayReport, RoutingChange, RoutingTable } from '@bridgekeeper/control/api';
import type { Logger } from '@bridgekeeper/server/edge';
import type { ServerClock } from '@bridgekeeper/server/host-clock';
import { GatewayError } from './errors.ts';
import { EventReader } from './event-reader.ts';
import type { LiveTable } from './live-table.ts';
import type { TableSource } from './source.ts';

/** Control sends a comment every 5 s: without anything for so long, it is gone. */
const SILENT_SECONDS = 20;
const REPORT_SECONDS = 5;
const SAVE_SECONDS = 1;
const FIRST_PAUSE_SECONDS = 0.2;
const LONGEST_PAUSE_SECONDS = 5;
const WAKE_SECONDS = 2;
const STATE_BYTES_MAX = 256 * 2 ** 20;
const EVENT_BYTES_MAX = 64 * 2 ** 20;

export interface ControlAddress {
  readonly url: string;
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
  #isConnected = false;
  #heardNs: number | null = null;
  #isSaved = true;
  #isSaving = false;

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
      clock.every(SAVE_SECONDS, () => void source.#save()),
    );
    return source;
  }

  get heardNs(): number | null {
    return this.#heardNs;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  close(): void {
    this.#closing.abort();
    for (const stop of this.#stops) stop();
  }

  /** Asks for a replica of a pool that has none; once in a while, however often it is called. */
  wake(pool: string): void {
    const { clock, log } = this.#parts;
    const nowNs = clock.nowNs();
    const lastNs = this.#wokenNs.get(pool) ?? Number.NEGATIVE_INFINITY;
    if (nowNs - lastNs < WAKE_SECONDS * 1e9) return;
    this.#wokenNs.set(pool, nowNs);
    const path = `/v1/pools/${encodeURIComponent(pool)}/wake`;
    void this.#call(path, { method: 'POST' }).catch(() => log.warn(`could not wake pool ${pool}`));
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
    // The connection may have ended among changes of one sequence: they come once more.
    const from = table.sequence === null ? '' : `?from=${Math.max(0, table.sequence - 1)}`;
    const path = `/v1/routing/events${from}`;
    let lastNs = clock.nowNs();
    const stopWatching = clock.every(SILENT_SECONDS / 4, () => {
      if (clock.nowNs() - lastNs > SILENT_SECONDS * 1e9) stop.abort();
    });
    try {
      const response = await this.#call(path, { headers: { accept: 'text/event-stream' } }, stop);
      if (response.body === null) throw new GatewayError('no-control', 'it answers nothing');
      const events = new EventReader(EVENT_BYTES_MAX);
      for await (const bytes of response.body as AsyncIterable<Uint8Array>) {
        lastNs = clock.nowNs();
        this.#heardNs = lastNs;
        if (!this.#isConnected) log.info('following the routes of control');
        this.#isConnected = true;
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

  async #call(path: string, init: RequestInit, stop = new AbortController()): Promise<Response> {
    const { url, key } = this.#address;
    const signal = AbortSignal.any([this.#closing.signal, stop.signal]);
    const headers = { ...(init.headers as Record<string, string>), authorization: `Bearer ${key}` };
    const target = new URL(path, url);
    const response = await fetch(target, { ...init, headers, signal, redirect: 'error' }).catch(
      (cause: unknown) => {
        throw new GatewayError('no-control', `${url} cannot be reached`, { cause });
      },
    );
    if (response.ok) return response;
    await response.body?.cancel();
    throw new GatewayError('no-control', `${url}${path}: status ${response.status}`);
  }

  async #report(): Promise<void> {
    if (!this.#isConnected) return;
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify(this.#parts.report());
    try {
      const response = await this.#call('/v1/gateways/report', { method: 'POST', headers, body });
      await response.body?.cancel();
    } catch {
      // The next one says all that this one said.
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
  async #save(): Promise<void> {
    if (this.#isSaved || this.#isSaving) return;
    const { log, table } = this.#parts;
    const { stateFile } = this.#address;
    this.#isSaving = true;
    this.#isSaved = true;
    try {
      const next = `${stateFile}.next`;
      // It holds keys of replicas.
      await writeFile(next, JSON.stringify(table.snapshot()), { mode: 0o600, flush: true });
      await rename(next, stateFile);
    } catch (error) {
      this.#isSaved = false;
      log.warn(`cannot keep the routes: ${(error as NodeJS.ErrnoException).code}`);
    } finally {
      this.#isSaving = false;
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
