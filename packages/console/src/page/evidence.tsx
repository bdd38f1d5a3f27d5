/// <reference lib="dom" />

import { createSignal, onMount } from 'solid-js';
import { ask } from './api.ts';
import { when } from './flow.ts';

const NONCE_BYTES = 32;
const REPORT_PATH = '/v1/attestation/report';

export interface Report {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** What a verdict is made of: it is made in this page, from what came, and nobody is asked. */
export interface Replayed {
  readonly verdict: string;
  readonly policy: string;
  readonly view: HTMLElement;
  readonly raw: Report | null;
  readonly nonceHex: string;
}

const toHex = (bytes: Uint8Array) =>
  [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** Asks for evidence under a new nonce, and verifies it here. Throws Error. */
export async function replay(files: readonly File[]): Promise<Replayed> {
  const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
  const read = files.map(async (file) => ({
    name: file.name,
    bytes: new Uint8Array(await file.arrayBuffer()),
  }));
  const given = await Promise.all(read);
  const raw = files.length > 0 ? null : await fetchReport(nonce);
  // Loaded when it is first needed: the other pages are there without it.
  const { judge } = await import('./verify-here.ts');
  const isFiles = files.length > 0;
  const judged = await judge(raw === null ? given : [raw], isFiles ? null : nonce);
  return { ...judged, raw, nonceHex: toHex(nonce) };
}

async function fetchReport(nonce: Uint8Array): Promise<Report> {
  const response = await ask(`${REPORT_PATH}?nonce=${toHex(nonce)}`);
  return { name: location.origin, bytes: new Uint8Array(await response.arrayBuffer()) };
}

/** Page 4: what is claimed, by whom, and whether it holds, verified in this page. */
export function EvidencePage() {
  const [result, setResult] = createSignal<Replayed | null>(null);
  const [problem, setProblem] = createSignal('');
  const [isBusy, setBusy] = createSignal(false);
  const [atMs, setAtMs] = createSignal(0);
  let chosen: readonly File[] = [];
  const run = async () => {
    setBusy(true);
    setProblem('');
    try {
      setResult(await replay(chosen));
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
    chosen = [...((form.elements.namedItem('files') as HTMLInputElement).files ?? [])];
    void run();
  };
  onMount(() => void run());
  return (
    <>
      <h1>Evidence</h1>
      <p class="hint">
        A new nonce goes to the server, its report comes back and is verified in this page against
        the vendors’ roots: no verdict of the server’s is taken over. Files of evidence
        (Bridgekeeper’s, dstack’s, NVIDIA’s) are verified the same way.
      </p>
      <form class="bar" onSubmit={submit}>
        <label>
          Files in place of this server’s report
          <input name="files" type="file" multiple />
        </label>
        <button type="submit" disabled={isBusy}>
          {() => (isBusy() ? 'Verifying…' : 'Replay')}
        </button>
        {when(
          () => result()?.raw != null,
          () => (
            <button type="button" onClick={() => saveRaw(result()!.raw!)}>
              Raw bytes
            </button>
          ),
        )}
      </form>
      <p class="problem" role="alert">
        {problem}
      </p>
      <div aria-live="polite" aria-busy={isBusy}>
        {when(
          () => result() != null && result() !== undefined,
          () => (
            <>
              <p class="hint">{`Nonce ${result()!.nonceHex}, ${new Date(atMs()).toISOString()}`}</p>
              {result()!.view}
            </>
          ),
        )}
      </div>
    </>
  );
}

function saveRaw({ bytes }: Report): void {
  const url = URL.createObjectURL(new Blob([bytes], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = 'report.json';
  link.click();
  URL.revokeObjectURL(url);
}
