/// <reference lib="dom" />

import { createSignal, onMount } from 'solid-js';
import { nowMs } from './connection.ts';
import {
  allowedOrigin,
  openAddress,
  ownReport,
  type Report,
  reportFrom,
  unwrapped,
} from './evidence-from.ts';
import { download } from './files.ts';
import { when } from './flow.ts';
import { opened } from './open.ts';
import { route } from './router.ts';
import { server } from './server.ts';
import { secondsText } from './units.ts';

const NONCE_BYTES = 32;

/** What a verdict is made of: it is made in this page, from what came, and nobody is asked. */
export interface Replayed {
  readonly verdict: string;
  readonly policy: string;
  readonly view: HTMLElement;
  readonly raw: readonly Report[];
  /** null: what is verified answers none. */
  readonly nonceHex: string | null;
}

/** What is verified: files, what an address says, or what this server says. */
export type Source =
  | { readonly kind: 'files'; readonly files: readonly File[] }
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'own' };

const toHex = (bytes: Uint8Array) =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** Asks for evidence under a new nonce, or takes files, and verifies it here. Throws Error. */
export async function replay(source: Source): Promise<Replayed> {
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const { raw, hasNonce } = await reportsOf(source, toHex(nonce));
  // Loaded when it is first needed: the other pages are there without it.
  const { judge } = await import('./verify-here.ts');
  const judged = await judge(await Promise.all(raw.map(unwrapped)), hasNonce ? nonce : null);
  return { ...judged, raw, nonceHex: hasNonce ? toHex(nonce) : null };
}

async function reportsOf(source: Source, nonceHex: string) {
  if (source.kind === 'own') return { raw: [await ownReport(nonceHex)], hasNonce: true };
  if (source.kind === 'address') {
    const { hasNonce, ...report } = await reportFrom(source.address, nonceHex);
    return { raw: [report], hasNonce };
  }
  const read = source.files.map(async (file) => ({
    name: file.name,
    bytes: new Uint8Array(await file.arrayBuffer()),
  }));
  return { raw: await Promise.all(read), hasNonce: false };
}

/** Page 4: what is claimed, by whom, and whether it holds, verified in this page. */
export function EvidencePage() {
  const [result, setResult] = createSignal<Replayed | null>(null);
  const [problem, setProblem] = createSignal('');
  const [isBusy, setBusy] = createSignal(false);
  const [atMs, setAtMs] = createSignal(0);
  const from = route().query.get('from');
  let source: Source | null = server === 'serve' ? { kind: 'own' } : null;
  if (from !== null && allowedOrigin() !== null) source = { kind: 'address', address: from };
  const files = opened('evidence');
  if (files !== null) source = { kind: 'files', files };
  const run = async () => {
    if (source === null) return;
    setBusy(true);
    setProblem('');
    try {
      setResult(await replay(source));
      setAtMs(Date.now());
    } catch (error) {
      setResult(null);
      setProblem(
        error instanceof TypeError ? 'No answer came from there.' : (error as Error).message,
      );
    } finally {
      setBusy(false);
    }
  };
  const submit = (event: Event) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const chosen = [...((form.elements.namedItem('files') as HTMLInputElement).files ?? [])];
    const address = (form.elements.namedItem('address') as HTMLInputElement).value.trim();
    if (chosen.length > 0) source = { kind: 'files', files: chosen };
    else if (address !== '' && address !== from) {
      try {
        openAddress(address);
      } catch {
        setProblem(`${address} is no address: give one such as https://inference.example.`);
      }
      return;
    }
    void run();
  };
  onMount(() => void run());
  const about = () => {
    const { nonceHex } = result()!;
    const age = secondsText(Math.max(0, (nowMs() - atMs()) / 1000));
    const asked =
      nonceHex === null ? 'It answers no nonce of this page' : `It answers nonce ${nonceHex}`;
    return `${asked}; verified ${age} ago, ${new Date(atMs()).toISOString()}.`;
  };
  return (
    <>
      <h1>Evidence</h1>
      <p class="hint">
        A new nonce goes to the server, its report comes back and is verified in this page against
        the vendors’ roots: no verdict of the server’s is taken over. Reports of others
        (Bridgekeeper’s, dstack’s, NEAR AI’s, Tinfoil’s, NVIDIA’s) are verified the same way, from
        files or from their address, which this page asks by itself and without any key.
      </p>
      <form class="bar" onSubmit={submit}>
        <label>
          Files
          <input name="files" type="file" multiple />
        </label>
        <label>
          or an address
          <input
            name="address"
            value={from ?? ''}
            placeholder="https://inference.example"
            autocomplete="off"
            spellcheck={false}
          />
        </label>
        <button type="submit" disabled={isBusy}>
          {() => (isBusy() ? 'Verifying…' : 'Replay')}
        </button>
        {when(
          () => result() !== null,
          () => (
            <button
              type="button"
              onClick={() => {
                for (const { bytes } of result()!.raw) download('report.json', bytes);
              }}
            >
              Raw bytes
            </button>
          ),
        )}
      </form>
      <p class="problem" role="alert">
        {problem}
      </p>
      <div aria-live="polite" aria-busy={isBusy}>
        {() => {
          const now = result();
          if (now === null) return '';
          return (
            <>
              <p class="hint" aria-live="off">
                {about}
              </p>
              {now.view}
            </>
          );
        }}
      </div>
    </>
  );
}
