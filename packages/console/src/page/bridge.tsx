/// <reference lib="dom" />

import { createSignal } from 'solid-js';
import { durationText, LETTERS, type View } from '../timeline/draw.ts';
import { type Sum, sumsWithin } from '../timeline/recording.ts';
import { traceOf } from '../timeline/trace.ts';
import { lineChart } from './chart.ts';
import { nowMs } from './connection.ts';
import { download } from './files.ts';
import { each, when } from './flow.ts';
import { lanes, type Shown } from './lanes.tsx';
import { bridge, recording, samples, saved } from './live.ts';
import { opened } from './open.ts';
import { remember, route } from './router.ts';
import { bytesText, countText, percentText, secondsText } from './units.ts';
import { WhatIf } from './what-if.tsx';

const SPAN_FIRST_US = 2e6;
const SPAN_MIN_US = 200;
const SPAN_MAX_US = 60e6;
const ZOOM = 1.6;
const PAN = 0.25;

type Selection = View['selection'];

/** Page 1: the lanes, what crossed on them and what it cost. */
export function BridgePage() {
  const shown = () => opened('bridge') ?? recording();
  const [spanUs, setSpanUs] = createSignal(spanFromAddress());
  /** Where the view ends; null: it follows what comes. */
  const [endUs, setEndUs] = createSignal<number | null>(null);
  const [selection, setSelection] = createSignal<Selection>(null);
  const now = () => shown()?.nowUs ?? 0;
  const view = (): View => {
    const toUs = endUs() ?? now();
    return { fromUs: toUs - spanUs(), toUs, selection: selection() };
  };
  const pause = () => setEndUs((end) => (end === null ? now() : null));
  const zoom = (factor: number) => {
    const span = Math.min(SPAN_MAX_US, Math.max(SPAN_MIN_US, Math.round(spanUs() * factor)));
    const end = endUs();
    // What is looked at stays in the middle; what is live stays at its end.
    if (end !== null) setEndUs(end + (span - spanUs()) / 2);
    setSpanUs(span);
    remember({ span: String(Math.round(span)) });
  };
  const pan = (part: number) => setEndUs((end) => (end ?? now()) + part * spanUs());
  const perfetto = () => {
    const recording = shown();
    const { fromUs, toUs } = selection() ?? view();
    if (recording !== null) download('bridge-trace.json', traceOf(recording, fromUs, toUs));
  };
  const whole = opened('bridge');
  if (whole !== null) {
    setSpanUs(Math.max(SPAN_MIN_US, whole.nowUs - whole.firstUs));
    setEndUs(whole.nowUs);
  }
  const keys = (event: KeyboardEvent) => {
    const action = {
      ' ': pause,
      '+': () => zoom(1 / ZOOM),
      '=': () => zoom(1 / ZOOM),
      w: () => zoom(1 / ZOOM),
      '-': () => zoom(ZOOM),
      s: () => zoom(ZOOM),
      ArrowLeft: () => pan(-PAN),
      a: () => pan(-PAN),
      ArrowRight: () => pan(PAN),
      d: () => pan(PAN),
      Escape: () => setSelection(null),
    }[event.key];
    if (action === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  };
  return (
    <>
      <h1>Bridge</h1>
      <Figures />
      <section aria-labelledby="lanes-title">
        <div class="bar">
          <h2 id="lanes-title">Lanes</h2>
          <button type="button" onClick={pause} aria-pressed={() => endUs() !== null}>
            {() => (endUs() === null ? '❚❚ Pause' : '▶ Follow')}
          </button>
          <button type="button" onClick={() => zoom(1 / ZOOM)} aria-label="Zoom in">
            +
          </button>
          <button type="button" onClick={() => zoom(ZOOM)} aria-label="Zoom out">
            −
          </button>
          <button type="button" onClick={() => pan(-PAN)} aria-label="Earlier">
            ◀
          </button>
          <button type="button" onClick={() => pan(PAN)} aria-label="Later">
            ▶
          </button>
          <span class="hint">{() => durationText(spanUs())}</span>
          <span class="spring" />
          {
            // A file is there already.
            whole === null ? (
              <button type="button" onClick={() => download('recording.json', saved())}>
                Save
              </button>
            ) : (
              ''
            )
          }
          <button type="button" onClick={perfetto} title="What is selected, or else in view">
            Perfetto
          </button>
        </div>
        {lanes(shown, view, keys, (chosen) => {
          // What is selected stays where it is.
          if (chosen !== null && endUs() === null) setEndUs(now());
          setSelection(chosen);
        })}
        {legend(shown)}
        {gaps(shown)}
        {selected(shown, selection)}
      </section>
      {whole === null ? <WhatIf /> : ''}
      <Ledger />
    </>
  );
}

function spanFromAddress(): number {
  const span = Number(route().query.get('span'));
  return span >= SPAN_MIN_US && span <= SPAN_MAX_US ? span : SPAN_FIRST_US;
}

function legend(shown: Shown) {
  const purposes = () => [...new Set((shown()?.accounts ?? []).map(({ purpose }) => purpose))];
  return (
    <ul class="legend" aria-label="What the colours mean">
      {each(purposes, (purpose: string) => (
        <li>
          <b class={`swatch ${purpose}`}>{LETTERS[purpose] ?? '?'}</b> {purpose}
        </li>
      ))}
      <li>
        <b class="swatch pale" /> toll (pale)
      </li>
      <li>
        <b class="swatch blocked" /> launching thread waited
      </li>
    </ul>
  );
}

/** What is not in the picture. */
function gaps(shown: Shown) {
  const text = () => {
    // Not with each moment: people read this.
    nowMs();
    const now = shown();
    if (now === null) return '';
    const parts = [
      now.missed > 0 ? `${countText(now.missed)} moments never came` : '',
      now.dropped > 0 ? `${countText(now.dropped)} crossings found no room` : '',
      now.malformed > 0 ? `${countText(now.malformed)} events could not be read` : '',
    ].filter((part) => part !== '');
    return parts.length === 0 ? '' : `Not in the picture: ${parts.join(', ')}.`;
  };
  return <p class="problem">{text}</p>;
}

/** What the selected stretch comes to. */
function selected(shown: Shown, selection: () => Selection) {
  const sums = () => {
    const recording = shown();
    const chosen = selection();
    if (recording === null || chosen === null) return [];
    return sumsWithin(recording, chosen.fromUs, chosen.toUs);
  };
  const length = () => (selection()?.toUs ?? 0) - (selection()?.fromUs ?? 0);
  return when(
    () => selection() !== null,
    () => (
      <table>
        <caption>{() => `Selected: ${durationText(length())}`}</caption>
        <thead>
          <tr>
            <th scope="col">Purpose</th>
            <th scope="col" class="number">
              Crossings
            </th>
            <th scope="col" class="number">
              Bytes
            </th>
            <th scope="col" class="number">
              Lane time
            </th>
            <th scope="col" class="number">
              of it toll
            </th>
            <th scope="col" class="number">
              Issuer waited
            </th>
          </tr>
        </thead>
        <tbody>
          {each(sums, (sum: Sum) => (
            <tr>
              <th scope="row">{`${sum.direction === 'h2d' ? '▲' : '▼'} ${sum.purpose}`}</th>
              <td class="number">{countText(Math.round(sum.crossings))}</td>
              <td class="number">{bytesText(sum.bytes)}</td>
              <td class="number">{durationText(sum.busyUs)}</td>
              <td class="number">{percentText(sum.tollUs / Math.max(1, sum.busyUs))}</td>
              <td class="number">{durationText(sum.blockedUs)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    ),
  );
}

/** What is going on, in numbers, and why it is done so. */
function Figures() {
  const rate = () => samples().at(-1)?.tokensPerSecond ?? 0;
  const figure = (title: string, value: () => string, hint?: () => string) => (
    <div class="figure">
      <dt>{title}</dt>
      <dd>
        <span>{value}</span>
        <small>{hint ?? ''}</small>
      </dd>
    </div>
  );
  const of = <T,>(read: (now: NonNullable<ReturnType<typeof bridge>>) => T, otherwise: T) => {
    return () => {
      const now = bridge();
      return now === null ? otherwise : read(now);
    };
  };
  return (
    <section aria-label="Now">
      <dl class="figures">
        {figure('Tokens a second', () => countText(Math.round(rate())))}
        {figure(
          'Requests',
          of(({ running }) => countText(running), '–'),
          of(waitingText, ''),
        )}
        {figure(
          'Crossings a token',
          of(({ per_generated_token: each }) => each.crossings.toFixed(3), '–'),
          of(({ per_generated_token: each }) => `${bytesText(each.bytes)} a token`, ''),
        )}
        {figure(
          'Law',
          of(({ law }) => law.name, '–'),
          of(({ assumed_bridge: assumed }) => `bridge: ${assumed.name}`, ''),
        )}
        {figure(
          'Policy',
          of(({ policy }) => policy.name, '–'),
          of(({ steps_per_launch: steps }) => `${steps} steps a launch`, ''),
        )}
        <div class="figure wide">
          <dt>Tokens a second, two minutes</dt>
          <dd>
            {lineChart(
              () => samples().map(({ atSeconds }) => atSeconds),
              () => samples().map(({ tokensPerSecond }) => tokensPerSecond),
            )}
          </dd>
        </div>
      </dl>
      <details>
        <summary>Why so</summary>
        <ul>
          <li>{of(({ law }) => `Law: ${law.reason}`, '')}</li>
          <li>
            {of(({ assumed_bridge: { reason } }) => `Bridge that is reckoned with: ${reason}`, '')}
          </li>
          <li>{of(({ policy }) => `Policy: ${policy.reason}`, '')}</li>
          <li>{of(({ steps_per_launch_reason: reason }) => `Steps a launch: ${reason}`, '')}</li>
          <li>{of(({ chunk_tokens_reason: reason }) => `Chunks of prompts: ${reason}`, '')}</li>
        </ul>
      </details>
      <p class="problem">{of(({ assumed_bridge: { warning } }) => warning ?? '', '')}</p>
    </section>
  );
}

const waitingText = ({ waiting }: { readonly waiting: number }) => `${countText(waiting)} wait`;

function Ledger() {
  type Entry = NonNullable<ReturnType<typeof bridge>>['ledger'][number];
  type Lane = NonNullable<ReturnType<typeof bridge>>['lanes'][number];
  const total = () => (bridge()?.ledger ?? []).reduce((sum, { busy_seconds: s }) => sum + s, 0);
  return (
    <div class="columns">
      <section aria-labelledby="ledger-title">
        <h2 id="ledger-title">Ledger since the start</h2>
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
              <th scope="col" class="number">
                Lane time
              </th>
              <th scope="col" class="number">
                Each
              </th>
              <th scope="col" class="number">
                Price
              </th>
              <th scope="col">Share</th>
            </tr>
          </thead>
          <tbody>
            {each(
              () => bridge()?.ledger ?? [],
              (entry: Entry) => (
                <tr>
                  <th scope="row">{`${entry.direction === 'h2d' ? '▲' : '▼'} ${entry.purpose}`}</th>
                  <td class="number">{countText(entry.crossings)}</td>
                  <td class="number">{bytesText(entry.bytes)}</td>
                  <td class="number">{secondsText(entry.busy_seconds)}</td>
                  <td class="number">{secondsText(entry.busy_seconds / entry.crossings)}</td>
                  <td class="number">
                    {entry.price_seconds === null ? '–' : secondsText(entry.price_seconds)}
                  </td>
                  <td>
                    <meter min={0} max={1} value={entry.busy_seconds / Math.max(1e-9, total())} />
                  </td>
                </tr>
              ),
            )}
          </tbody>
        </table>
      </section>
      <section aria-labelledby="busy-title">
        <h2 id="busy-title">Lanes since the start</h2>
        <table>
          <thead>
            <tr>
              <th scope="col">Lane</th>
              <th scope="col" class="number">
                Crossings
              </th>
              <th scope="col" class="number">
                Busy
              </th>
              <th scope="col" class="number">
                Issuer waited
              </th>
            </tr>
          </thead>
          <tbody>
            {each(
              () => bridge()?.lanes ?? [],
              (lane: Lane) => (
                <tr>
                  <th scope="row">{lane.id}</th>
                  <td class="number">{countText(lane.crossings)}</td>
                  <td class="number">{percentText(lane.utilisation)}</td>
                  <td class="number">{secondsText(lane.blocked_seconds)}</td>
                </tr>
              ),
            )}
          </tbody>
        </table>
      </section>
    </div>
  );
}
