/// <reference lib="dom" />

import { createResource, createSignal, onCleanup } from 'solid-js';
import type { View } from '../timeline/draw.ts';
import type { Recording } from '../timeline/recording.ts';
import { askJson } from './api.ts';
import { each, when } from './flow.ts';
import { lanes } from './lanes.tsx';
import { recording } from './live.ts';
import { route } from './router.ts';
import { bytesText, countText } from './units.ts';

/** As GET /v1/requests/{id} answers: never with a word of text. */
export interface Life {
  readonly id: string;
  readonly answer_id: string;
  readonly tenant: string;
  readonly route: string;
  readonly model: string;
  readonly arrived_us: number;
  readonly state: 'open' | 'done';
  readonly finish_reasons: readonly (string | null)[];
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly generated_tokens: number;
  readonly first_token_ms: number | null;
  readonly total_ms: number;
  readonly timing: {
    readonly queued_ms: number;
    readonly prefill_ms: number;
    readonly decode_ms: number;
    readonly preemptions: number;
  } | null;
  readonly crossings: readonly {
    readonly purpose: string;
    readonly direction: string;
    readonly crossings: number;
    readonly bytes: number;
  }[];
  readonly receipt_id: string | null;
  /** Tokens of a KV page. */
  readonly page_tokens: number;
}

interface Lives {
  readonly data: readonly Life[];
  readonly has_more: boolean;
}

const ROWS = 50;
const REFRESH_MS = 2_000;
const ms = (value: number | null) => (value === null ? '–' : `${countText(Math.round(value))} ms`);

/** Page 2: the last requests, or the life of one. */
export function RequestsPage() {
  return when(
    () => route().rest[0] !== undefined,
    () => <One />,
    () => <List />,
  );
}

function List() {
  const before = () => route().query.get('before');
  const [tick, setTick] = createSignal(0);
  const timer = setInterval(() => setTick((count) => count + 1), REFRESH_MS);
  onCleanup(() => clearInterval(timer));
  const [lives] = createResource(
    () => ({ before: before(), tick: tick() }),
    ({ before: last }) => {
      const query = new URLSearchParams({ limit: String(ROWS) });
      if (last !== null) query.set('before', last);
      return askJson<Lives>(`/v1/requests?${query}`);
    },
  );
  const shown = () => (lives.error === undefined ? lives.latest : undefined);
  const older = () => {
    const last = shown()?.data.at(-1);
    return last === undefined ? '#/requests' : `#/requests?before=${encodeURIComponent(last.id)}`;
  };
  return (
    <>
      <h1>Requests</h1>
      <p class="hint">
        The last thousand at most, newest first; never their text. With an operator key those of all
        tenants.
      </p>
      <p class="problem" role="alert">
        {() => (lives.error as Error | undefined)?.message ?? ''}
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">Request</th>
            <th scope="col">Tenant</th>
            <th scope="col">State</th>
            <th scope="col" class="number">
              Prompt
            </th>
            <th scope="col" class="number">
              cached
            </th>
            <th scope="col" class="number">
              Answer
            </th>
            <th scope="col" class="number">
              First token
            </th>
            <th scope="col" class="number">
              Total
            </th>
            <th scope="col">Where its time went</th>
          </tr>
        </thead>
        <tbody>
          {each(
            () => shown()?.data ?? [],
            (life: Life) => (
              <tr>
                <th scope="row">
                  <a href={`#/requests/${encodeURIComponent(life.id)}`}>{life.id.slice(0, 12)}</a>
                </th>
                <td>{life.tenant.slice(0, 12)}</td>
                <td>{stateText(life)}</td>
                <td class="number">{countText(life.prompt_tokens)}</td>
                <td class="number">{countText(life.cached_tokens)}</td>
                <td class="number">{countText(life.generated_tokens)}</td>
                <td class="number">{ms(life.first_token_ms)}</td>
                <td class="number">{ms(life.total_ms)}</td>
                <td>{phases(life)}</td>
              </tr>
            ),
          )}
        </tbody>
      </table>
      {when(
        () => shown()?.data.length === 0,
        () => (
          <p class="empty">No request has come yet. Ask something under Chat.</p>
        ),
      )}
      <nav class="bar" aria-label="More requests">
        {when(
          () => before() !== null,
          () => (
            <a href="#/requests">Newest</a>
          ),
        )}
        {when(
          () => shown()?.has_more === true,
          () => (
            <a href={older}>Older</a>
          ),
        )}
      </nav>
    </>
  );
}

function stateText({ state, finish_reasons }: Life): string {
  if (state === 'open') return '◌ open';
  const reasons = [...new Set(finish_reasons.map((reason) => reason ?? 'refused'))];
  return `${reasons.includes('error') ? '✕' : '●'} ${reasons.join(', ')}`;
}

const PHASES = [
  ['queued', 'queued_ms'],
  ['prefill', 'prefill_ms'],
  ['decode', 'decode_ms'],
] as const;

function phases(life: Life) {
  const { timing } = life;
  if (timing === null) return <span class="hint">not done</span>;
  const whole = Math.max(
    1e-3,
    PHASES.reduce((sum, [, field]) => sum + timing[field], 0),
  );
  const said = PHASES.map(([name, field]) => `${name} ${ms(timing[field])}`).join(', ');
  return (
    <span class="phases" role="img" aria-label={said} title={said}>
      {PHASES.map(([name, field]) => (
        <i class={name} style={`width: ${(100 * timing[field]) / whole}%`} />
      ))}
    </span>
  );
}

function One() {
  const id = () => route().rest[0] ?? '';
  const [life] = createResource(id, (name) =>
    askJson<Life>(`/v1/requests/${encodeURIComponent(name)}`),
  );
  const [receipt, setReceipt] = createSignal('');
  const show = async (receiptId: string) => {
    try {
      const found = await askJson<object>(`/v1/receipts/${encodeURIComponent(receiptId)}`);
      setReceipt(JSON.stringify(found, null, 2));
    } catch (error) {
      setReceipt((error as Error).message);
    }
  };
  /** The stretch of the lanes in which it ran; null: they show it no more, or not to this key. */
  const stretch = ({ arrived_us, total_ms }: Life): View | null => {
    const now = recording();
    if (now === null) return null;
    const fromUs = arrived_us - now.serverOffsetUs;
    const toUs = fromUs + total_ms * 1e3;
    return toUs > now.firstUs ? { fromUs, toUs, selection: null } : null;
  };
  return (
    <>
      <p>
        <a href="#/requests">‹ All requests</a>
      </p>
      <h1>Request {() => id().slice(0, 24)}</h1>
      <p class="problem" role="alert">
        {() => (life.error as Error | undefined)?.message ?? ''}
      </p>
      {when(
        () => life.error === undefined && life() !== undefined,
        () => {
          const now = life()!;
          const rows: readonly (readonly [string, string])[] = [
            ['State', stateText(now)],
            ['Answer’s id', now.answer_id],
            ['Route', now.route],
            ['Model', now.model],
            ['Tenant', now.tenant],
            ['Prompt', `${countText(now.prompt_tokens)} tokens`],
            ['of it cached', `${countText(now.cached_tokens)} tokens`],
            ['Answer', `${countText(now.generated_tokens)} tokens`],
            ['First token', ms(now.first_token_ms)],
            ['In all', ms(now.total_ms)],
            ['Queued', ms(now.timing?.queued_ms ?? null)],
            ['Prefill', ms(now.timing?.prefill_ms ?? null)],
            ['Decode', ms(now.timing?.decode_ms ?? null)],
            ['Preempted', now.timing === null ? '–' : `${now.timing.preemptions} times`],
            ['KV pages', pagesText(now)],
          ];
          const seen = stretch(now);
          return (
            <>
              <p>{phases(now)}</p>
              <table class="facts">
                <tbody>
                  {rows.map(([name, value]) => (
                    <tr>
                      <th scope="row">{name}</th>
                      <td>{value}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
              {seen === null ? (
                <p class="hint">The lanes show the last minute, and this is not in it.</p>
              ) : (
                <>
                  <h2>While it ran</h2>
                  {lanes(
                    recording,
                    () => seen,
                    () => {},
                    () => {},
                  )}
                  <p class="hint">{launchesText(recording()!, seen)}</p>
                </>
              )}
              <h2>Its share of what crossed</h2>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Purpose</th>
                    <th scope="col" class="number">
                      Crossings
                    </th>
                    <th scope="col" class="number">
                      Bytes
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {now.crossings.map((each) => (
                    <tr>
                      <th scope="row">
                        {`${each.direction === 'h2d' ? '▲' : '▼'} ${each.purpose}`}
                      </th>
                      <td class="number">{countText(Number(each.crossings.toFixed(2)))}</td>
                      <td class="number">{bytesText(each.bytes)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
              <p class="hint">Crossings that served several requests count in equal parts.</p>
              <div class="bar">
                {now.receipt_id === null ? (
                  <span class="hint">It has no receipt.</span>
                ) : (
                  <button type="button" onClick={() => void show(now.receipt_id!)}>
                    Receipt
                  </button>
                )}
              </div>
              {when(
                () => receipt() !== '',
                () => (
                  <pre tabindex={0}>{receipt}</pre>
                ),
              )}
            </>
          );
        },
      )}
    </>
  );
}

/** Prefill chunks, launches and rows while it ran; they served whatever else ran, too. */
function launchesText({ launches }: Recording, { fromUs, toUs }: View): string {
  const during = [...launches].filter(({ startUs, endUs }) => endUs > fromUs && startUs < toUs);
  const chunks = during.filter(({ promptTokens }) => promptTokens > 0);
  const steps = during.reduce((sum, { count }) => sum + count, 0);
  const rows = Math.max(0, ...during.map((launch) => launch.rows));
  const longest = Math.max(0, ...chunks.map(({ promptTokens }) => promptTokens));
  return (
    `${countText(during.length)} launches, ${countText(chunks.length)} of them with chunks of ` +
    `prompts (the longest ${countText(longest)} tokens); ${countText(steps)} decode steps of up ` +
    `to ${countText(rows)} rows. They served all that ran.`
  );
}

/** Whole pages that its tokens fill on the device, the last one begun. */
function pagesText({ prompt_tokens, cached_tokens, generated_tokens, page_tokens }: Life): string {
  const pages = Math.ceil((prompt_tokens + generated_tokens) / page_tokens);
  const found = Math.floor(cached_tokens / page_tokens);
  return `${countText(pages)} of ${page_tokens} tokens, ${countText(found)} found in the cache`;
}
