/// <reference lib="dom" />

import { linesFigure } from './figure.ts';
import { opened } from './open.ts';
import { bytesText, countText, secondsText } from './units.ts';

/** As `bridgekeeper probe --json` writes it; read with care, as files are by anybody. */
interface ProbeDocument {
  readonly version?: unknown;
  readonly startedAt?: unknown;
  readonly isComplete?: unknown;
  readonly facts?: Readonly<Record<string, unknown>>;
  readonly fits?: readonly Readonly<Record<string, unknown>>[];
  readonly runs?: readonly {
    readonly parameters?: Readonly<Record<string, unknown>>;
    readonly metrics?: Readonly<Record<string, unknown>>;
  }[];
}

const ROWS = 200;

/** The report of a probe, from a file: what a crossing costs on a machine. */
export function ProbePage() {
  const document = opened('probe') as ProbeDocument | null;
  if (document === null) {
    return (
      <>
        <h1>Probe</h1>
        <p class="empty">
          Open a report: <code>bridgekeeper probe --json</code> writes one.
        </p>
      </>
    );
  }
  const { facts = {}, fits = [], runs = [] } = document;
  const copies = curvesOf(runs);
  return (
    <>
      <h1>Probe</h1>
      <p class="hint">
        {`${text(document.startedAt)}, version ${text(document.version)}` +
          (document.isComplete === true ? '' : ': it is not complete')}
      </p>
      <div class="columns">
        <table class="facts">
          <tbody>
            {Object.entries(facts)
              .filter(([, value]) => typeof value !== 'object')
              .slice(0, ROWS)
              .map(([name, value]) => (
                <tr>
                  <th scope="row">{name}</th>
                  <td>{text(value)}</td>
                </tr>
              ))}
          </tbody>
        </table>
        {copies.length === 0
          ? ''
          : linesFigure(
              'Time of a copy by its bytes',
              { title: 'bytes', text: bytesText, isLog: true },
              { title: 'time on the lane', text: secondsText, isLog: true },
              copies,
            )}
      </div>
      <h2>What was fitted</h2>
      {tableOf('What was fitted', fits)}
      {measuresOf(runs).map(([measure, rows]) => (
        <>
          <h2>{`Measured: ${measure}`}</h2>
          {tableOf(`Measured: ${measure}`, rows)}
        </>
      ))}
    </>
  );
}

type Runs = NonNullable<ProbeDocument['runs']>;

/** Rows by what was measured: each has columns of its own. */
function measuresOf(runs: Runs) {
  const measures = new Map<string, Readonly<Record<string, unknown>>[]>();
  for (const { parameters = {}, metrics = {} } of runs) {
    const { measure, ...rest } = parameters;
    const name = text(measure);
    measures.set(name, [...(measures.get(name) ?? []), { ...rest, ...metrics }]);
  }
  return [...measures];
}

/** One crossing at a time on a lane that nothing else uses, by direction and memory. */
function curvesOf(runs: Runs) {
  const curves = new Map<string, (readonly [number, number])[]>();
  for (const { parameters = {}, metrics = {} } of runs) {
    const { measure, bytes, direction, memory } = parameters;
    const ns = metrics.serviceNs;
    if (measure !== 'crossing' || typeof ns !== 'number' || !(ns > 0)) continue;
    if (typeof bytes !== 'number' || bytes <= 0) continue;
    const name = [direction, memory].filter((each) => typeof each === 'string').join(' ');
    curves.set(name, [...(curves.get(name) ?? []), [bytes, ns / 1e9]]);
  }
  return [...curves].map(([name, points], look) => ({
    name,
    look,
    isDashed: name.startsWith('d2h'),
    points: points.sort(([a], [b]) => a - b),
  }));
}

function text(value: unknown): string {
  if (typeof value === 'number') return countText(Number(value.toPrecision(4)));
  return value === undefined || value === null ? '–' : String(value).slice(0, 200);
}

function tableOf(title: string, rows: readonly Readonly<Record<string, unknown>>[]) {
  const shown = rows.slice(0, ROWS);
  const names = [...new Set(shown.flatMap((row) => Object.keys(row)))].filter((name) =>
    shown.some((row) => row[name] !== undefined && typeof row[name] !== 'object'),
  );
  const isNumber = (name: string) => shown.some((row) => typeof row[name] === 'number');
  return (
    <section class="scroll" tabindex={0} aria-label={title}>
      <table>
        <thead>
          <tr>
            {names.map((name) => (
              <th scope="col" class={isNumber(name) ? 'number' : ''}>
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map((row) => (
            <tr>
              {names.map((name) => (
                <td class={isNumber(name) ? 'number' : ''}>{text(row[name])}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}
