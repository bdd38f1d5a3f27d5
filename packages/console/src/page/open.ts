/// <reference lib="dom" />
import { createSignal } from 'solid-js';
import { Recording, type Snapshot } from '../timeline/recording.ts';
import { recordingOfTrace } from '../timeline/trace.ts';
import { go } from './router.ts';

/** What can be looked at without a server, by the page that shows it. */
interface Kinds {
  readonly bridge: Recording;
  readonly plan: object;
  readonly probe: object;
  readonly log: string;
  readonly evidence: readonly File[];
}

type Kind = keyof Kinds;

/** A file, or several, that stand for one thing. */
export type Opened = {
  readonly [K in Kind]: { readonly kind: K; readonly name: string; readonly value: Kinds[K] };
}[Kind];

/** It is shown in place of the server's until it is closed. */
const [file, setFile] = createSignal<Opened | null>(null);

export { file };

export function closeFile(): void {
  setFile(null);
}

/** What was opened for that page; null: nothing. */
export function opened<K extends Kind>(kind: K): Kinds[K] | null {
  const now = file();
  return now?.kind === kind ? (now.value as Kinds[K]) : null;
}

const BYTES_MAX = 512 * 2 ** 20;
const NOTE = /^[^\n]+\n\d+\n[A-Za-z0-9+/=]+\n/;

/** Shows files on the page that they are for. Throws Error that says why it cannot. */
export async function open(files: readonly File[]): Promise<void> {
  const [first] = files;
  if (first === undefined) return;
  if (first.size > BYTES_MAX) {
    throw new Error(`${first.name} has more than ${BYTES_MAX / 2 ** 20} MiB.`);
  }
  const found = files.length > 1 ? evidenceOf(files) : await read(first);
  setFile(found);
  go(found.kind);
}

function evidenceOf(files: readonly File[]): Opened {
  return { kind: 'evidence', name: files.map(({ name }) => name).join(', '), value: files };
}

async function read(given: File): Promise<Opened> {
  const { name } = given;
  const text = await given.text();
  if (text.startsWith('c2sp.org/tlog-proof@') || NOTE.test(text)) {
    return { kind: 'log', name, value: text };
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Quotes and certificates are no JSON; what is neither is refused where evidence is read.
    return evidenceOf([given]);
  }
  const document = (value ?? {}) as Readonly<Record<string, unknown>>;
  const { accounts, moments, traceEvents, plan, suite, fits } = document;
  if (moments !== undefined || accounts !== undefined) {
    return { kind: 'bridge', name, value: recordingOf(name, document) };
  }
  if (Array.isArray(traceEvents)) {
    return { kind: 'bridge', name, value: traced(name, traceEvents) };
  }
  if (suite === 'probe' && Array.isArray(fits)) return { kind: 'probe', name, value: document };
  if (typeof plan === 'object' && plan !== null && 'predictions' in plan) {
    return { kind: 'plan', name, value: plan };
  }
  return evidenceOf([given]);
}

function recordingOf(name: string, document: Readonly<Record<string, unknown>>): Recording {
  const { accounts, moments } = document;
  if (!Array.isArray(accounts) || !Array.isArray(moments)) {
    throw new Error(
      `${name} is no recording: it is saved by “Save” here, by bridgekeeper top --record, or ` +
        'from GET /v1/bridge/timeline.',
    );
  }
  return whole(name, document as unknown as Snapshot);
}

function traced(name: string, events: readonly unknown[]): Recording {
  try {
    return whole(name, recordingOfTrace(events));
  } catch (error) {
    throw new Error(`${name} is no trace of a bridge: ${(error as Error).message}.`);
  }
}

function whole(name: string, snapshot: Snapshot): Recording {
  try {
    return new Recording(snapshot, Number.POSITIVE_INFINITY);
  } catch {
    throw new Error(`${name} is no recording: its moments cannot be read.`);
  }
}
