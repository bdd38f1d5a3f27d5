/// <reference lib="dom" />
import { createSignal } from 'solid-js';
import { FleetView, isEvent, type Kind, type Rows } from '../fleet/view.ts';
import { ask, askJson, events, key, ServerError } from './api.ts';
import { heard, keep, live } from './connection.ts';

const [fleet, setFleet] = createSignal(new FleetView());
/** A tenant's key shows its own pools and replicas, asked for again and again. */
const [isTenant, setTenant] = createSignal(false);

export { fleet, isTenant };

const LISTS = { host: 'hosts', pool: 'pools', replica: 'replicas', tenant: 'tenants' } as const;
/** Rows of a list that are read at most: 200 a page. */
const PAGES_MAX = 25;
const FRAME_MS = 100;
const TENANT_MS = 2_000;

/** Keeps the fleet as control has it for as long as the page is. */
export function watchFleet(): Promise<never> {
  return keep(follow, key);
}

async function follow(): Promise<void> {
  let sequence: number;
  try {
    ({ sequence } = await askJson<{ readonly sequence: number }>('/v1/status'));
  } catch (error) {
    if (error instanceof ServerError && error.status === 403) return followAsTenant();
    throw error;
  }
  setTenant(false);
  const first = await read(['host', 'pool', 'replica', 'tenant'], sequence);
  setFleet(first);
  heard();
  live();
  const waiting: unknown[] = [];
  let frame: ReturnType<typeof setTimeout> | undefined;
  // However fast changes come, the page is drawn ten times a second at most.
  const draw = () => {
    frame = undefined;
    const changes = waiting.splice(0);
    setFleet((view) => view.after(changes));
  };
  const stream = await ask(`/v1/events?from=${sequence}`);
  try {
    for await (const { data } of events(stream)) {
      // A sign of life says nothing, and what cannot be read is none.
      if (data === '') {
        heard();
        continue;
      }
      const change = parsed(data);
      if (!isEvent(change)) continue;
      heard();
      waiting.push(change);
      frame ??= setTimeout(draw, FRAME_MS);
    }
  } finally {
    clearTimeout(frame);
  }
}

async function followAsTenant(): Promise<never> {
  setTenant(true);
  for (;;) {
    setFleet(await read(['pool', 'replica'], Date.now()));
    heard();
    live();
    await new Promise((go) => setTimeout(go, TENANT_MS));
  }
}

async function read(kinds: readonly (keyof typeof LISTS)[], sequence: number): Promise<FleetView> {
  let view = new FleetView();
  for (const kind of kinds) view = view.with(kind, await listOf(kind), sequence);
  return view;
}

async function listOf<K extends keyof typeof LISTS & Kind>(kind: K): Promise<Rows[K][]> {
  const rows: Rows[K][] = [];
  let after = '';
  for (let page = 0; page < PAGES_MAX; page++) {
    const query = after === '' ? '' : `?after=${encodeURIComponent(after)}`;
    const found = await askJson<{ rows: Rows[K][]; next: string | null }>(
      `/v1/${LISTS[kind]}${query}`,
    );
    rows.push(...found.rows);
    if (found.next === null) break;
    after = found.next;
  }
  return rows;
}

function parsed(data: string): unknown {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}
