/// <reference lib="dom" />

import { createResource, createSignal, onCleanup } from 'solid-js';
import { askJson, simulate } from './api.ts';
import { type Line, linesFigure, stacksFigure } from './figure.ts';
import { download } from './files.ts';
import { each, when } from './flow.ts';
import { opened } from './open.ts';
import { remember, route } from './router.ts';
import { countText, percentText, secondsText } from './units.ts';

interface Choices {
  readonly served: string | null;
  readonly models: readonly string[];
  readonly gpus: readonly { readonly name: string; readonly title: string }[];
  readonly laws: readonly string[];
  readonly engines: readonly string[];
}

interface Spread {
  readonly p50: number;
  readonly p99: number;
}

/** What of a prediction is shown; the file has all of it. */
interface Prediction {
  readonly engine: string;
  readonly law: string;
  readonly neverDrains: string | null;
  readonly outputTokensPerSecond: number;
  readonly ttftMs: Spread;
  readonly itlMs: Spread;
  readonly tpotMs: Spread;
  readonly step: Readonly<Record<string, number>>;
}

/** As `bridgekeeper plan --json` has it under `plan`. */
export interface Plan {
  readonly model: { readonly name: string };
  readonly gpu: { readonly title: string };
  readonly workload: { readonly name: string };
  readonly predictions: readonly { readonly prediction: Prediction; readonly tax: number | null }[];
  readonly points: readonly {
    readonly kind: string;
    readonly value: number;
    readonly prediction: Prediction;
    readonly tax: number | null;
  }[];
  readonly capacities: readonly {
    readonly engine: string;
    readonly law: string;
    readonly requestsPerSecond: number;
  }[];
}

const PARTS = [
  ['memoryNs', 'memory'],
  ['computeNs', 'arithmetic'],
  ['kernelNs', 'kernels’ own time'],
  ['tollNs', 'tolls'],
  ['transferNs', 'bytes crossing'],
  ['blockedNs', 'blocked threads'],
  ['launchNs', 'launches'],
  ['hostNs', 'host'],
] as const;

const ENGINES = [
  ['', 'the usual ones'],
  ['bridgekeeper', 'Bridgekeeper’s policies'],
  ['vllm', 'vLLM’s'],
  ['sglang', 'SGLang’s'],
] as const;

const FIELDS = ['model', 'gpu', 'law', 'engine', 'workload', 'sweep', 'ttft', 'itl'] as const;
type Field = (typeof FIELDS)[number];
const USUAL: Readonly<Record<Field, string>> = {
  model: '',
  gpu: 'h100',
  law: 'auto',
  engine: '',
  workload: '8 at a time, 512+128, 64 requests',
  sweep: '1, 8, 32',
  ttft: '',
  itl: '',
};

/** Page 8: what a load would pay on a machine, before there is one. */
export function PlanPage() {
  const [choices] = createResource(() => askJson<Choices>('/v1/plan'));
  const [plan, setPlan] = createSignal<Plan | null>(opened('plan') as Plan | null);
  const [progress, setProgress] = createSignal('');
  const [problem, setProblem] = createSignal('');
  const [running, setRunning] = createSignal<AbortController | null>(null);
  onCleanup(() => running()?.abort());
  const valueIn = (field: Field) => route().query.get(field) ?? USUAL[field];
  const run = async (event: Event) => {
    event.preventDefault();
    const form = new FormData(event.target as HTMLFormElement);
    const given = Object.fromEntries(
      FIELDS.map((field) => [field, String(form.get(field) ?? '').trim()]),
    ) as Record<Field, string>;
    remember(Object.fromEntries(FIELDS.map((name) => [name, given[name] || null])));
    const controller = new AbortController();
    running()?.abort();
    setRunning(controller);
    setProblem('');
    setPlan(null);
    try {
      const found = await simulate('/v1/plan', questionOf(given), controller.signal, setProgress);
      setPlan(found as Plan);
    } catch (error) {
      if (!controller.signal.aborted) setProblem((error as Error).message);
    } finally {
      if (running() === controller) setRunning(null);
      setProgress('');
    }
  };
  const field = (name: Field, title: string, hint = '') => (
    <label>
      {title}
      <input name={name} value={valueIn(name)} placeholder={hint} autocomplete="off" />
    </label>
  );
  const select = (
    name: Field,
    title: string,
    options: () => readonly (readonly [string, string])[],
  ) => (
    <label>
      {title}
      <select name={name}>
        {each(options, ([value, text]: readonly [string, string]) => (
          <option value={value} selected={value === valueIn(name)}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
  const known = () => (choices.error === undefined ? choices() : undefined);
  return (
    <>
      <h1>Plan</h1>
      <p class="hint">
        What a load would pay on a machine, by <code>bridgekeeper plan</code>: simulated in a thread
        of low priority, so that serving does not wait for it.
      </p>
      <p class="problem" role="alert">
        {() => problem() || ((choices.error as Error | undefined)?.message ?? '')}
      </p>
      {when(
        () => known() !== undefined,
        () => (
          <form class="bar" onSubmit={(event: Event) => void run(event)}>
            {select('model', 'Model', () => [
              ['', known()!.served === null ? 'choose' : `served: ${known()!.served}`],
              ...known()!.models.map((name) => [name, name] as const),
            ])}
            {select('gpu', 'GPU', () => known()!.gpus.map(({ name, title }) => [name, title]))}
            {select('law', 'Law', () =>
              known()!.laws.map((name) => [name, name === 'auto' ? 'auto: the GPU’s own' : name]),
            )}
            {select('engine', 'Engines', () => [
              ...ENGINES,
              ...known()!.engines.map((name) => [name, name] as const),
            ])}
            {field('workload', 'Load', '8 at a time, 1024+256')}
            {field('sweep', 'Also at a time', '1, 8, 32')}
            {field('ttft', 'First token within, ms', 'no limit')}
            {field('itl', 'Tokens within, ms', 'no limit')}
            <button type="submit" class="main">
              Plan
            </button>
            {when(
              () => running() !== null,
              () => (
                <button type="button" onClick={() => running()?.abort()}>
                  Cancel
                </button>
              ),
            )}
          </form>
        ),
      )}
      <p role="status">{progress}</p>
      {() => {
        const found = plan();
        return found === null ? '' : report(found);
      }}
    </>
  );
}

function questionOf(given: Readonly<Record<Field, string>>): object {
  const loads = given.sweep.split(/[,\s]+/).filter((text) => text !== '');
  return {
    model: given.model === '' ? null : given.model,
    gpu: given.gpu,
    laws: [given.law],
    workload: given.workload,
    ...(given.engine === '' ? {} : { engines: [given.engine] }),
    concurrencies: loads.map(Number),
    ttft_ms: given.ttft === '' ? null : Number(given.ttft),
    itl_ms: given.itl === '' ? null : Number(given.itl),
  };
}

const nameOf = ({ engine, law }: Pick<Prediction, 'engine' | 'law'>) =>
  `${engine}, ${law === 'off' ? 'law off' : law}`;
const ms = (value: number) => `${countText(Number(value.toPrecision(3)))} ms`;

function report(plan: Plan) {
  const { predictions, points, capacities } = plan;
  const engines = [...new Set(predictions.map(({ prediction }) => prediction.engine))];
  const lines = (
    kept: (point: Plan['points'][number]) => boolean,
    at: (point: Plan['points'][number]) => readonly [number, number],
  ): readonly Line[] => {
    const found = new Map<string, Plan['points'][number][]>();
    for (const point of points.filter(kept)) {
      const name = nameOf(point.prediction);
      found.set(name, [...(found.get(name) ?? []), point]);
    }
    return [...found].map(([name, line]) => ({
      name,
      look: engines.indexOf(line[0]!.prediction.engine),
      isDashed: line[0]!.prediction.law === 'off',
      points: line.sort((a, b) => a.value - b.value).map(at),
    }));
  };
  const parts = PARTS.filter(([part]) =>
    predictions.some(({ prediction }) => (prediction.step[part] ?? 0) > 0),
  );
  return (
    <>
      <div class="bar">
        <h2>{`${plan.model.name} on ${plan.gpu.title}: ${plan.workload.name}`}</h2>
        <span class="spring" />
        <button type="button" onClick={() => download('plan.json', JSON.stringify({ plan }))}>
          Save
        </button>
      </div>
      <table>
        <thead>
          <tr>
            <th scope="col">Engine</th>
            <th scope="col">Law</th>
            {['Tokens/s', 'Lost', 'TTFT p50', 'p99', 'ITL p50', 'p99'].map((name) => (
              <th scope="col" class="number">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {predictions.map(({ prediction, tax }) => (
            <tr>
              <th scope="row">{prediction.engine}</th>
              <td>{prediction.law}</td>
              <td class="number">
                {prediction.neverDrains ?? countText(Math.round(prediction.outputTokensPerSecond))}
              </td>
              <td class="number">{tax === null ? '–' : percentText(Math.max(0, tax))}</td>
              <td class="number">{ms(prediction.ttftMs.p50)}</td>
              <td class="number">{ms(prediction.ttftMs.p99)}</td>
              <td class="number">{ms(prediction.itlMs.p50)}</td>
              <td class="number">{ms(prediction.itlMs.p99)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <div class="figures-wide">
        {points.length === 0
          ? ''
          : linesFigure(
              'Throughput against latency',
              { title: 'mean time between tokens, ms', text: countText },
              { title: 'output tokens a second', text: countText },
              lines(
                () => true,
                ({ prediction }) => [prediction.tpotMs.p50, prediction.outputTokensPerSecond],
              ),
            )}
        {points.length === 0
          ? ''
          : linesFigure(
              'What the bridge takes, by load',
              { title: 'requests at a time', text: countText, isLog: true },
              { title: '% of throughput', text: countText },
              lines(
                ({ tax }) => tax !== null,
                ({ value, tax }) => [value, Math.max(0, 100 * tax!)],
              ),
            )}
        {stacksFigure(
          'Where the time of a step goes',
          parts.map(([, name]) => name),
          predictions.map(({ prediction }) => ({
            name: nameOf(prediction),
            values: parts.map(([part]) => prediction.step[part] ?? 0),
          })),
          (ns) => secondsText(ns / 1e9),
        )}
      </div>
      {capacities.length === 0 ? (
        ''
      ) : (
        <table>
          <caption>Requests a second within the limits</caption>
          <tbody>
            {capacities.map((capacity) => (
              <tr>
                <th scope="row">{nameOf(capacity)}</th>
                <td class="number">
                  {countText(Number(capacity.requestsPerSecond.toPrecision(3)))}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </>
  );
}
