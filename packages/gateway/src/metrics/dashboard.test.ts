import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { startTestGateway } from '../testing/test-gateway.ts';
import { GATEWAY_METRICS } from './catalogue.ts';
import { gatewayAlerts, gatewayDashboard } from './dashboard.ts';

const pretty = (value: object) => `${JSON.stringify(value, null, 2)}\n`;
const page = (name: string) =>
  fileURLToPath(new URL(`../../../../docs/operate/dashboards/${name}`, import.meta.url));

/** What a query of Prometheus reads. */
const namesIn = (text: string) =>
  new Set([...text.matchAll(/bridgekeeper:\w+/g)].map(([name]) => name.replace(/_bucket$/, '')));

test('the dashboard shows every metric, and the alerts read no others', async () => {
  const gateway = await startTestGateway({
    pools: [{ name: 'p', models: ['m'], replicas: [{ url: 'http://127.0.0.1:9' }] }],
  });
  const text = await (await fetch(`${gateway.url}/metrics`)).text();
  await gateway.stop(0);
  const served = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!));
  expect(new Set(Object.values(GATEWAY_METRICS).map(({ name }) => name))).toEqual(served);
  expect(namesIn(JSON.stringify(gatewayDashboard()))).toEqual(served);
  for (const name of namesIn(JSON.stringify(gatewayAlerts()))) expect(served).toContain(name);
});

test('the page of metrics has each with its type, and no other', () => {
  const text = readFileSync(page('../../reference/metrics.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `(bridgekeeper:gateway_\w+)` \| (\w+) \|/gm)];
  const specs = Object.values(GATEWAY_METRICS).map(({ name, type }) => [name, type]);
  expect(rows.map(([, name, type]) => [name, type]).sort()).toEqual(specs.sort());
});

test('panels are in their places, none over another, each with an id of its own', () => {
  const { panels } = gatewayDashboard() as {
    panels: { id: number; gridPos: { x: number; y: number; w: number; h: number } }[];
  };
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  const taken = new Set<string>();
  for (const { x, y, w, h } of panels.map(({ gridPos }) => gridPos)) {
    expect(x + w).toBeLessThanOrEqual(24);
    for (let column = x; column < x + w; column++) {
      for (let line = y; line < y + h; line++) {
        expect(taken).not.toContain(`${column} ${line}`);
        taken.add(`${column} ${line}`);
      }
    }
  }
});

test('what is written down is what the program prints', async () => {
  await expect(pretty(gatewayDashboard())).toMatchFileSnapshot(page('gateway.json'));
  await expect(pretty(gatewayAlerts())).toMatchFileSnapshot(page('gateway-alerts.json'));
});
