import { RoutingTable } from '@bridgekeeper/control/api';
import { expect, test } from 'vitest';
import { readRoutes } from './routes-file.ts';

const replica = { url: 'http://127.0.0.1:8000' };
const pools = [{ name: 'stories', models: ['storyteller'], replicas: [replica] }];
const read = (value: unknown) => readRoutes(JSON.stringify(value), 3, 'routes.json');

test('a file of routes is a table as control has it', () => {
  const tenants = [{ name: 'one', keySha256: ['a'.repeat(64)], inFlightMax: 2 }];
  const { table, isOpen } = read({ pools, tenants });
  expect(RoutingTable.parse(table)).toEqual(table);
  expect(table).toMatchObject({ sequence: 3, pools: [{ pool: 'stories' }] });
  expect(isOpen).toBe(false);
  expect(read({ pools }).isOpen).toBe(true);
  // The same replica has the same name at the next reading.
  expect(read({ pools }).table.replicas[0]!.replica).toBe(table.replicas[0]!.replica);
});

test.each([
  [{}, /routes.json: pools: /],
  [{ pools: [] }, /pools: /],
  [{ pools, more: 1 }, /Unrecognized key: "more"/],
  [{ pools: [...pools, ...pools] }, /two pools have the name stories/],
  [
    { pools: [{ name: 'a', models: ['m'], replicas: [replica, replica] }] },
    /two replicas have the name 127.0.0.1:8000/,
  ],
  [{ pools: [...pools, { ...pools[0], name: 'b', replicas: [] }] }, /two pools have the model/],
  [
    { pools: [{ ...pools[0], replicas: [{ url: 'ftp://x' }] }] },
    /pools\.0\.replicas\.0\.url: Invalid URL/,
  ],
  [
    { pools, tenants: [{ name: 'one', keySha256: ['a key in the clear'] }] },
    /tenants\.0\.keySha256\.0/,
  ],
])('%j is refused, and where it is wrong is said', (value, message) => {
  expect(() => read(value)).toThrow(message);
});

test('what is no JSON is refused', () => {
  expect(() => readRoutes('{', 0, 'routes.json')).toThrow('routes.json is not JSON');
});
