/// <reference lib="dom" />

import { createMemo, createResource, createSignal, onCleanup } from 'solid-js';
import type { HostRow } from '../fleet/view.ts';
import { ask } from './api.ts';
import { heard, live, lost, nowMs } from './connection.ts';
import { download } from './files.ts';
import { fleet } from './fleet-live.ts';
import { each, when } from './flow.ts';
import { opened } from './open.ts';
import type { Head } from './read-log.ts';
import { route } from './router.ts';
import { server } from './server.ts';
import { countText, secondsText } from './units.ts';

type Reader = typeof import('./read-log.ts');

const TILE = 256;
const REFRESH_MS = 5_000;

interface Entry {
  readonly index: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly document: Readonly<Record<string, unknown>>;
}

/** Page 6: what a host's log says, who signed for it, and proofs to take away. */
export function LogPage() {
  const [reader] = createResource<Reader>(() => import('./read-log.ts'));
  return (
    <>
      <h1>Log</h1>
      {when(
        () => reader() !== undefined,
        () => {
          const text = opened('log');
          if (text !== null) return <OneHead text={text} reader={reader()!} />;
          return server === 'log' ? <WholeLog reader={reader()!} /> : <Heads reader={reader()!} />;
        },
      )}
    </>
  );
}

function headIn(reader: Reader, text: string): Head | string {
  try {
    return reader.headOf(text);
  } catch (error) {
    return (error as Error).message;
  }
}

function signersOf({ signers }: Head) {
  return (
    <ul class="plain">
      {signers.map(({ name, keyId, seenMs }) => (
        <li>
          {() =>
            seenMs === null
              ? `▣ ${name} (${keyId}), the log`
              : `◉ ${name} (${keyId}), a witness, ` +
                `${secondsText(Math.max(0, (nowMs() - seenMs) / 1000))} ago`
          }
        </li>
      ))}
    </ul>
  );
}

function OneHead(props: { readonly text: string; readonly reader: Reader }) {
  const { text, reader } = props;
  const head = headIn(reader, text);
  if (typeof head === 'string') return <p class="problem">{head}</p>;
  const index = reader.indexOf(text);
  return (
    <>
      <p class="hint">
        {index === null ? 'A checkpoint' : `A proof of entry ${index}`} from a file. Nothing of it
        is verified here: <code>bridgekeeper verify --fabric-log</code> does that.
      </p>
      <table class="facts">
        <tbody>
          <tr>
            <th scope="row">Log</th>
            <td>{head.origin}</td>
          </tr>
          <tr>
            <th scope="row">Entries</th>
            <td>{countText(head.size)}</td>
          </tr>
          <tr>
            <th scope="row">Root</th>
            <td>
              <code>{head.rootHex}</code>
            </td>
          </tr>
          <tr>
            <th scope="row">Signed by</th>
            <td>{signersOf(head)}</td>
          </tr>
        </tbody>
      </table>
    </>
  );
}

/** Of a fleet: the last checkpoint of each host's log. */
function Heads(props: { readonly reader: Reader }) {
  const { reader } = props;
  const rows = createMemo(() => fleet().all('host').slice(0, 200));
  return (
    <>
      <p class="hint">
        The last head that each host’s agent handed over. Its entries and proofs are served by the
        agent itself: <code>bridgekeeper fabric agent --log-port</code>, page <code>/console</code>.
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">Host</th>
            <th scope="col">Log</th>
            <th scope="col" class="number">
              Entries
            </th>
            <th scope="col">Root</th>
            <th scope="col">Signed by</th>
            <th scope="col">Checkpoint</th>
          </tr>
        </thead>
        <tbody>
          {each(rows, ({ host, checkpoint }: HostRow) => {
            const head = checkpoint === null ? 'it has no fabric log' : headIn(reader, checkpoint);
            if (typeof head === 'string') {
              return (
                <tr>
                  <th scope="row">{host}</th>
                  <td colspan={5}>{head}</td>
                </tr>
              );
            }
            return (
              <tr>
                <th scope="row">{host}</th>
                <td>{head.origin}</td>
                <td class="number">{countText(head.size)}</td>
                <td>
                  <code>{head.rootHex.slice(0, 16)}</code>
                </td>
                <td>{signersOf(head)}</td>
                <td>
                  <button
                    type="button"
                    aria-label={`Download the checkpoint of ${host}`}
                    onClick={() => download(`${host}.checkpoint`, checkpoint!, 'text/plain')}
                  >
                    Download
                  </button>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {when(
        () => rows().length === 0,
        () => (
          <p class="empty">There is no host, or the key is not an operator’s.</p>
        ),
      )}
    </>
  );
}

/** One log, served by the agent that writes it. */
function WholeLog(props: { readonly reader: Reader }) {
  const { reader } = props;
  const [tick, setTick] = createSignal(0);
  const timer = setInterval(() => setTick((count) => count + 1), REFRESH_MS);
  onCleanup(() => clearInterval(timer));
  const [text] = createResource(tick, async () => {
    try {
      const found = await (await ask('/checkpoint')).text();
      heard();
      live();
      return found;
    } catch (error) {
      lost(error);
      throw error;
    }
  });
  const checkpoint = () => (text.error === undefined ? text.latest : undefined);
  const head = createMemo(() => {
    const now = checkpoint();
    return now === undefined ? null : headIn(reader, now);
  });
  const size = () => {
    const now = head();
    return now === null || typeof now === 'string' ? 0 : now.size;
  };
  /** The last tile, or the one that the address names. */
  const tile = () => {
    const last = Math.max(0, Math.ceil(size() / TILE) - 1);
    const wanted = route().query.get('tile');
    return wanted === null ? last : Math.min(last, Math.max(0, Math.trunc(Number(wanted)) || 0));
  };
  const [entries] = createResource(
    () => ({ tile: tile(), size: size() }),
    ({ tile: index, size: count }) => read(reader, index, count),
  );
  const [problem, setProblem] = createSignal('');
  const [verdict, setVerdict] = createSignal('');
  /** `keys` null: the proof is saved; else it is verified here. */
  const proofOf = async ({ index, bytes }: Entry, keys: string | null) => {
    setProblem('');
    setVerdict('');
    try {
      const proof = await (await ask(`/proof/${index}`)).text();
      if (keys === null) download(`entry-${index}.tlog-proof`, proof, 'text/plain');
      else {
        const given = keys.split(/\s+/).filter((key) => key !== '');
        setVerdict(`● ${await reader.verifyHere(bytes, proof, given)}`);
      }
    } catch (error) {
      setProblem(`✕ Entry ${index}: ${(error as Error).message}`);
    }
  };
  let keyField!: HTMLInputElement;
  return (
    <>
      {() => {
        const now = head();
        if (now === null) return <p class="empty">Nothing was heard yet.</p>;
        if (typeof now === 'string') return <p class="problem">{now}</p>;
        return (
          <section aria-label="Checkpoint">
            <table class="facts">
              <tbody>
                <tr>
                  <th scope="row">Log</th>
                  <td>{now.origin}</td>
                </tr>
                <tr>
                  <th scope="row">Entries</th>
                  <td>{countText(now.size)}</td>
                </tr>
                <tr>
                  <th scope="row">Root</th>
                  <td>
                    <code>{now.rootHex}</code>
                  </td>
                </tr>
                <tr>
                  <th scope="row">Signed by</th>
                  <td>{signersOf(now)}</td>
                </tr>
              </tbody>
            </table>
          </section>
        );
      }}
      <div class="bar">
        <button
          type="button"
          onClick={() => download('checkpoint', checkpoint() ?? '', 'text/plain')}
        >
          Checkpoint
        </button>
        <label>
          Keys of the log and its witnesses, to verify here
          <input
            ref={(element: HTMLInputElement) => {
              keyField = element;
            }}
            placeholder="name+id+key …"
            autocomplete="off"
            spellcheck={false}
          />
        </label>
      </div>
      <p class="problem" role="alert">
        {problem}
      </p>
      <p role="status">{verdict}</p>
      {entriesTable(
        () => (entries.error === undefined ? (entries() ?? []) : []),
        (entry) => void proofOf(entry, null),
        (entry) => void proofOf(entry, keyField.value),
      )}
      <nav class="bar" aria-label="More entries">
        {when(
          () => tile() > 0,
          () => (
            <a href={() => `#/log?tile=${tile() - 1}`}>Older</a>
          ),
        )}
        {when(
          () => (tile() + 1) * TILE < size(),
          () => (
            <a href={() => `#/log?tile=${tile() + 1}`}>Newer</a>
          ),
        )}
      </nav>
    </>
  );
}

function entriesTable(
  entries: () => readonly Entry[],
  save: (entry: Entry) => void,
  verify: (entry: Entry) => void,
) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col" class="number">
            Entry
          </th>
          <th scope="col">When</th>
          <th scope="col">What</th>
          <th scope="col">Vouched by</th>
          <th scope="col">Proof</th>
        </tr>
      </thead>
      <tbody>
        {each(entries, (entry: Entry) => (
          <tr>
            <th scope="row" class="number">
              {entry.index}
            </th>
            <td>{whenText(entry.document.atMs)}</td>
            <td>{whatText(entry.document)}</td>
            <td>{String(entry.document.grade ?? '–')}</td>
            <td>
              <button
                type="button"
                aria-label={`Download the proof of entry ${entry.index}`}
                onClick={() => save(entry)}
              >
                Download
              </button>{' '}
              <button
                type="button"
                aria-label={`Verify entry ${entry.index} here`}
                onClick={() => verify(entry)}
              >
                Verify
              </button>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function whenText(atMs: unknown): string {
  return typeof atMs === 'number' ? new Date(atMs).toISOString().replace('T', ' ') : '–';
}

function whatText(document: Entry['document']): string {
  const { kind, change, tenancy } = document;
  if (typeof kind !== 'string') return 'it cannot be read';
  if (typeof change !== 'string') return kind;
  const { modules, epoch } = (tenancy ?? {}) as { modules?: unknown; epoch?: unknown };
  const whose = Array.isArray(modules) ? ` of modules ${modules.join(', ')}` : '';
  return `${kind}: ${change}${whose}${epoch === undefined ? '' : `, epoch ${String(epoch)}`}`;
}

/** Entries of one tile, newest first. */
async function read(reader: Reader, tile: number, size: number): Promise<readonly Entry[]> {
  const width = Math.min(TILE, size - tile * TILE);
  if (width <= 0) return [];
  const groups = String(tile)
    .padStart(3 * Math.ceil(String(tile).length / 3), '0')
    .match(/.{3}/g)!;
  const folders = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group));
  const path = `/tile/entries/${folders.join('/')}${width === TILE ? '' : `.p/${width}`}`;
  const bundle = new Uint8Array(await (await ask(path)).arrayBuffer());
  return reader
    .entriesOf(bundle)
    .map((bytes, at) => {
      const index = tile * TILE + at;
      return { index, bytes, document: documentOf(bytes) };
    })
    .reverse();
}

function documentOf(bytes: Uint8Array): Entry['document'] {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as Entry['document'];
  } catch {
    return {};
  }
}
