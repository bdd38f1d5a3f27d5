import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { HOST_CLOCK as clock } from '../host-clock.ts';
import type { RequestLife } from '../openai/request-log.ts';
import { startTestServer } from '../testing/test-server.ts';
import { trafficOf } from './plan.ts';

const life = (
  arrivedUs: number,
  totalMs: number,
  more: Partial<RequestLife> = {},
): RequestLife => ({
  id: String(arrivedUs),
  answer_id: 'a',
  tenant: 'default',
  route: '/v1/completions',
  model: 'm',
  arrived_us: arrivedUs,
  state: 'done',
  finish_reasons: ['stop'],
  prompt_tokens: 10,
  cached_tokens: 0,
  generated_tokens: 11,
  first_token_ms: 5,
  total_ms: totalMs,
  timing: { queued_ms: 0, prefill_ms: 5, decode_ms: 20, preemptions: 0 },
  crossings: [],
  receipt_id: null,
  page_tokens: 16,
  ...more,
});

describe('the traffic of late', () => {
  test('is means of what has ended, and how much of it there was at a time', () => {
    // Two that are there for one second, one after the other; then two at once for one.
    const two = [life(0, 1000), life(1_000_000, 1000, { prompt_tokens: 30 })];
    const open = life(0, 9000, { state: 'open', timing: null });
    expect(trafficOf([...two, open])).toEqual({
      requests: 2,
      promptTokens: 20,
      outputTokens: 11,
      concurrency: 1,
      tokenNs: 2e6,
    });
    expect(trafficOf([life(0, 1000), life(0, 1000)])).toMatchObject({ concurrency: 2 });
    expect(trafficOf([open, life(0, 1, { generated_tokens: 1 })])).toBeNull();
  });
});

test('one plan is made at a time, and none for somebody who has left', async () => {
  const server = await startTestServer();
  const load = { gpu: 'h100', model: 'Qwen3-0.6B', engines: ['bridgekeeper-resident'] };
  const large = { ...load, workload: '200 at a time, 2000+500, 2000 requests' };
  const small = { ...load, workload: '1 at a time, 8+2, 2 requests', concurrencies: [] };
  const post = (body: object, signal?: AbortSignal) =>
    fetch(`${server.url}/v1/plan`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
      ...(signal && { signal }),
    });
  try {
    const leaving = new AbortController();
    const first = await post(large, leaving.signal);
    expect(first.status).toBe(200);
    expect((await post(small)).status).toBe(429);
    leaving.abort();
    const next = new AbortController();
    let second = await post(small, next.signal);
    while (second.status === 429) {
      await clock.sleepUntilNs(clock.nowNs() + 5e7);
      second = await post(small, next.signal);
    }
    expect(second.headers.get('content-type')).toContain('text/event-stream');
    next.abort();
    for (const wrong of [
      { ...small, gpu: 'abacus' },
      { ...small, model: 'nobody' },
      { ...small, laws: ['none'] },
      { ...small, workload: '1 at a time, 8+2, 5000 requests' },
      { ...small, colour: 'red' },
    ]) {
      expect((await post(wrong)).status).toBe(400);
    }
    const { error } = (await (
      await fetch(`${server.url}/v1/plan/what-if`, { method: 'POST' })
    ).json()) as { error: { message: string } };
    expect(error.message).toContain('No request');
  } finally {
    await server.stop(0);
  }
}, 60_000);

test('a plan whose client left before it began keeps nobody waiting', async () => {
  const server = await startTestServer();
  const load = { gpu: 'h100', model: 'Qwen3-0.6B', engines: ['bridgekeeper-resident'] };
  const post = (body: object) => {
    const headers = { 'Content-Type': 'application/json' };
    return fetch(`${server.url}/v1/plan`, { method: 'POST', headers, body: JSON.stringify(body) });
  };
  try {
    const { hostname, port } = new URL(server.url);
    const left = connect(Number(port), hostname);
    const workload = '1 at a time, 2000+2000, 2000 requests';
    const body = JSON.stringify({ ...load, workload, concurrencies: [] });
    const head = `POST /v1/plan HTTP/1.1\r\nHost: ${hostname}:${port}\r\n`;
    const type = `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
    left.end(`${head}${type}${body}`);
    await once(left, 'finish');
    left.resetAndDestroy();
    const small = { ...load, workload: '1 at a time, 8+2, 2 requests', concurrencies: [] };
    let next = await post(small);
    while (next.status === 429) {
      await clock.sleepUntilNs(clock.nowNs() + 5e7);
      next = await post(small);
    }
    expect(await next.text()).toContain('event: plan');
  } finally {
    await server.stop(0);
  }
}, 60_000);
