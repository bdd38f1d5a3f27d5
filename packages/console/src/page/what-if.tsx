/// <reference lib="dom" />

import { createSignal, onCleanup } from 'solid-js';
import { simulate } from './api.ts';
import { each, when } from './flow.ts';
import { bytesText, countText, secondsText } from './units.ts';

interface Answer {
  readonly measured: {
    readonly requests: number;
    readonly promptTokens: number;
    readonly outputTokens: number;
    readonly concurrency: number;
    readonly tokenNs: number;
  };
  readonly gpu: string;
  readonly slower: number;
  readonly rows: readonly Row[];
}

interface Row {
  readonly policy: string;
  readonly law: string;
  readonly isNow: boolean;
  readonly tokenNs: number;
  readonly bridgeNs: number;
  readonly crossingsPerToken: number;
  readonly bytesPerToken: number;
}

const change = (to: number, from: number) => {
  const percent = 100 * (to / from - 1);
  const sign = percent > 0.05 ? '▲ +' : percent < -0.05 ? '▼ ' : '= ';
  return `${sign}${percent.toFixed(1)} %`;
};

/** What this traffic would pay under another policy or law, beside what was measured. */
export function WhatIf() {
  const [answer, setAnswer] = createSignal<Answer | null>(null);
  const [progress, setProgress] = createSignal('');
  const [problem, setProblem] = createSignal('');
  const [running, setRunning] = createSignal<AbortController | null>(null);
  onCleanup(() => running()?.abort());
  const run = async () => {
    const controller = new AbortController();
    setRunning(controller);
    setProblem('');
    try {
      const found = await simulate('/v1/plan/what-if', null, controller.signal, setProgress);
      setAnswer(found as Answer);
    } catch (error) {
      if (!controller.signal.aborted) setProblem((error as Error).message);
    } finally {
      setRunning(null);
      setProgress('');
    }
  };
  const now = () => answer()?.rows.find(({ isNow }) => isNow);
  return (
    <section aria-labelledby="what-if-title">
      <div class="bar">
        <h2 id="what-if-title">What if</h2>
        <button type="button" disabled={() => running() !== null} onClick={() => void run()}>
          Ask the planner
        </button>
        {when(
          () => running() !== null,
          () => (
            <button type="button" onClick={() => running()?.abort()}>
              Cancel
            </button>
          ),
        )}
        <span role="status">{progress}</span>
      </div>
      <p class="problem" role="alert">
        {problem}
      </p>
      {when(
        () => answer() !== null,
        () => {
          const { measured, gpu, slower } = answer()!;
          const load =
            `${countText(measured.requests)} requests of ` +
            `${countText(Math.round(measured.promptTokens))} + ` +
            `${countText(Math.round(measured.outputTokens))} tokens, ` +
            `${measured.concurrency.toFixed(1)} at a time`;
          const between = secondsText(measured.tokenNs / 1e9);
          const times = countText(Number(slower.toPrecision(3)));
          const about =
            `Of late: ${load}; measured ${between} between tokens. Simulated on a ${gpu} ` +
            `whose kernels take ${times} times as long, which is what was measured here.`;
          return (
            <>
              <p class="hint">{about}</p>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Policy</th>
                    <th scope="col">Law</th>
                    {[
                      'Between tokens',
                      'Against now',
                      'GPU waits a step',
                      'Crossings',
                      'Bytes',
                    ].map((name) => (
                      <th scope="col" class="number">
                        {name}
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  <tr>
                    <th scope="row">● measured</th>
                    <td>now</td>
                    <td class="number">{secondsText(measured.tokenNs / 1e9)}</td>
                    <td class="number">
                      {change(measured.tokenNs, now()?.tokenNs ?? measured.tokenNs)}
                    </td>
                    <td class="number">–</td>
                    <td class="number">–</td>
                    <td class="number">–</td>
                  </tr>
                  {each(
                    () => answer()!.rows,
                    (row: Row) => (
                      <tr>
                        <th scope="row">{`${row.isNow ? '▸ ' : ''}${row.policy}`}</th>
                        <td>{row.law}</td>
                        <td class="number">{secondsText(row.tokenNs / 1e9)}</td>
                        <td class="number">{change(row.tokenNs, now()?.tokenNs ?? row.tokenNs)}</td>
                        <td class="number">{secondsText(row.bridgeNs / 1e9)}</td>
                        <td class="number">{row.crossingsPerToken.toFixed(3)}</td>
                        <td class="number">{bytesText(row.bytesPerToken)}</td>
                      </tr>
                    ),
                  )}
                </tbody>
              </table>
              <p class="hint">▸ is in force; crossings and bytes are of a token.</p>
            </>
          );
        },
        () => (
          <p class="hint">
            What the requests of late would pay under each policy, and under other laws.
          </p>
        ),
      )}
    </section>
  );
}
