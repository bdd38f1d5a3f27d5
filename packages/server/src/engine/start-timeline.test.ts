import { expect, it } from 'vitest';
import { StartTimeline } from './start-timeline.ts';

it('says what a start does and what each part of it took', () => {
  const lines: string[] = [];
  let nowNs = 5e9;
  const clock = { nowNs: () => nowNs };
  const timeline = new StartTimeline(clock, nowNs, (line) => lines.push(line));
  nowNs += 0.4e9;
  timeline.begin('model');
  nowNs += 1e6;
  timeline.begin('weights');
  nowNs += 2.5e9;
  expect(timeline.finish()).toEqual([
    { phase: 'process', seconds: 0.4 },
    { phase: 'model', seconds: 0.001 },
    { phase: 'weights', seconds: 2.5 },
  ]);
  expect(lines).toEqual([
    "0.4 s: reading the model's description and tokenizer",
    '0.4 s: loading weights',
    'ready after 2.90 s: process 0.40, weights 2.50',
  ]);
});
