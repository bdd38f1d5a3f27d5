/// <reference lib="dom" />
import { createSignal } from 'solid-js';
import { MomentStream } from '../timeline/moment-stream.ts';
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

/**
 * Shows files on the page that they are for; `onProgress` is told what part was read. Throws Error
 * that says why it cannot.
 */
export async function open(
  files: readonly File[],
  onProgress: (part: number) => void,
): Promise<void> {
  const [first] = files;
  if (first === undefined) return;
  if (first.size > BYTES_MAX) {
    throw new Error(`${first.name} has more than ${BYTES_MAX / 2 ** 20} MiB.`);
  }
  const found = files.length > 1 ? evidenceOf(files) : await read(first, onProgress);
  setFile(found);
  go(found.kind);
}

function evidenceOf(files: readonly File[]): Opened {
  return { kind: 'evidence', name: files.map(({ name }) => name).join(', '), value: files };
}

async function read(given: File, onProgress: (part: number) => void): Promise<Opened> {
  const { name } = given;
  const { text, reader } = await streamed(given, onProgress);
  if (text.startsWith('c2sp.org/tlog-proof@') || NOTE.test(text)) {
    return { kind: 'log', name, value: text };
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    if (reader.isUsed) throw new Error(`${name} is no whole recording: it ends too early.`);
    // Quotes and certificates are no JSON; what is neither is refused where evidence is read.
    return evidenceOf([given]);
  }
  const document = (value ?? {}) as Readonly<Record<string, unknown>>;
  const { accounts, moments, traceEvents, plan, suite, fits } = document;
  if (moments !== undefined || accounts !== undefined) {
    return { kind: 'bridge', name, value: reader.recordingOf(document) };
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

/** Reads a file as it comes: its moments into a recording, and the rest as text. */
async function streamed(given: File, onProgress: (part: number) => void) {
  const reader = new MomentReader(given.name);
  const stream = new MomentStream();
  const onItem = (item: string) => reader.take(item, stream);
  const decoder = new TextDecoder();
  let isOver = false;
  // The next piece is on its way while one is read.
  let next = piece(given, 0);
  for (let from = 0; !isOver; from += PIECE_BYTES) {
    const bytes = await next;
    isOver = from + PIECE_BYTES >= given.size;
    if (!isOver) next = piece(given, from + PIECE_BYTES);
    stream.push(decoder.decode(bytes, { stream: !isOver }), onItem);
    onProgress(Math.min(1, (from + PIECE_BYTES) / Math.max(1, given.size)));
  }
  return { text: stream.rest, reader };
}

/** Each is a way to the browser and back: few, so that a busy machine is no slower for it. */
const PIECE_BYTES = 4 * 2 ** 20;

function piece(given: File, from: number): Promise<ArrayBuffer> {
  return given.slice(from, from + PIECE_BYTES).arrayBuffer();
}

/** Moments of a file, taken in as they come where it was said before what their accounts are. */
class MomentReader {
  readonly #name: string;
  #recording: Recording | null = null;
  #waiting: string[] = [];
  #isUsed = false;

  constructor(name: string) {
    this.#name = name;
  }

  /** Whether any moment came. */
  get isUsed(): boolean {
    return this.#isUsed;
  }

  take(item: string, from: MomentStream): void {
    if (!this.#isUsed) this.#recording = this.#beginning(from.rest);
    this.#isUsed = true;
    if (this.#recording === null) this.#waiting.push(item);
    else this.#add(this.#recording, item, from.items);
  }

  /** Of what came, and what the document says besides. Throws Error. */
  recordingOf({ device, accounts, moments }: Readonly<Record<string, unknown>>): Recording {
    if (!Array.isArray(accounts) || !Array.isArray(moments)) {
      throw new Error(
        `${this.#name} is no recording: it is saved by “Save” here, by ` +
          'bridgekeeper top --record, or from GET /v1/bridge/timeline.',
      );
    }
    if (this.#recording !== null) return this.#recording;
    const recording = whole({ device: String(device), accounts, moments: [] });
    for (const [index, item] of this.#waiting.entries()) this.#add(recording, item, index + 1);
    return recording;
  }

  /** null: what came before the moments does not say what their accounts are. */
  #beginning(rest: string): Recording | null {
    try {
      const { device, accounts } = JSON.parse(`${rest}]}`) as Partial<Snapshot>;
      if (!Array.isArray(accounts)) return null;
      return whole({ device: String(device), accounts, moments: [] });
    } catch {
      return null;
    }
  }

  #add(recording: Recording, item: string, number: number): void {
    let moment: unknown;
    try {
      moment = JSON.parse(item);
    } catch {
      throw new Error(`${this.#name} is no recording: its moment ${number} is no JSON.`);
    }
    recording.add(moment);
  }
}

function traced(name: string, events: readonly unknown[]): Recording {
  try {
    return whole(recordingOfTrace(events));
  } catch (error) {
    throw new Error(`${name} is no trace of a bridge: ${(error as Error).message}.`);
  }
}

function whole(snapshot: Snapshot): Recording {
  return new Recording(snapshot, Number.POSITIVE_INFINITY);
}
