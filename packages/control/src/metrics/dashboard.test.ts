import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { CONTROL_METRICS, controlAlerts, controlDashboard } from './catalogue.ts';
import { ControlMetrics } from './control-metrics.ts';

const pretty = (value: object) => `${JSON.stringify(value, null, 2)}\n`;
const page = (name: string) =>
  fileURLToPath(new URL(`../../../../docs/operate/dashboards/${name}`, import.meta.url));

/** What a query of Prometheus reads. */
const namesIn = (text: string) =>
  new Set([...text.matchAll(/bridgekeeper:\w+/g)].map(([name]) => name.replace(/_bucket$/, '')));

test('the dashboard shows every metric, and the alerts read no others', async () => {
  const { text } = await new ControlMetrics({ term: () => null, nowMs: () => 0 }).exposition();
  const served = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!));
  expect(new Set(Object.values(CONTROL_METRICS).map(({ name }) => name))).toEqual(served);
  expect(namesIn(JSON.stringify(controlDashboard()))).toEqual(served);
  for (const name of namesIn(JSON.stringify(controlAlerts()))) expect(served).toContain(name);
});

test('alerts name no label that their metric does not have', () => {
  const text = JSON.stringify(controlAlerts());
  for (const [, name, label] of text.matchAll(/(bridgekeeper:\w+)\{(\w+)=/g)) {
    const spec = Object.values(CONTROL_METRICS).find((each) => each.name === name);
    expect(spec?.labels).toContain(label);
  }
});

test('the page of metrics has each with its type, and no other', () => {
  const text = readFileSync(page('../../reference/metrics.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `(bridgekeeper:control_\w+)` \| (\w+) \|/gm)];
  const specs = Object.values(CONTROL_METRICS).map(({ name, type }) => [name, type]);
  expect(rows.map(([, name, type]) => [name, type]).sort()).toEqual(specs.sort());
});

test('what is written down is what the program prints', async () => {
  await expect(pretty(controlDashboard())).toMatchFileSnapshot(page('control.json'));
  await expect(pretty(controlAlerts())).toMatchFileSnapshot(page('control-alerts.json'));
});
