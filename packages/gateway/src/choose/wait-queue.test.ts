import { expect, test } from 'vitest';
import { WaitQueue } from './wait-queue.ts';

const every = () => true;

/** The tenants of those that wait, in the order in which they go. */
function order(requests: readonly (readonly [tenant: string, weight: number])[]): string {
  const queue = new WaitQueue();
  for (const [tenant, weight] of requests) queue.add({ tenant, weight });
  let text = '';
  while (queue.length > 0) text += queue.take(every)!.tenant;
  return text;
}

const many = (tenant: string, count: number, weight = 1) =>
  Array.from({ length: count }, () => [tenant, weight] as const);

test('tenants take turns, however many requests one has', () => {
  expect(order([...many('a', 6), ...many('b', 2)])).toBe('ababaaaa');
});

test('a tenant of twice the weight goes twice as often', () => {
  const first = order([...many('a', 20, 2), ...many('b', 20)]).slice(0, 12);
  expect([...first].filter((tenant) => tenant === 'a')).toHaveLength(8);
});

test('a tenant that was idle has earned nothing', () => {
  const queue = new WaitQueue();
  for (const tenant of ['a', 'b', 'a', 'a', 'a']) queue.add({ tenant, weight: 1 });
  for (let count = 0; count < 4; count++) queue.take(every);
  for (const tenant of ['b', 'b', 'b', 'b', 'a']) queue.add({ tenant, weight: 1 });
  let text = '';
  while (queue.length > 0) text += queue.take(every)!.tenant;
  // Not four of b first.
  expect(text.slice(0, 4)).toMatch(/^(?:abab|baba|abba|baab)/);
});

test('one that may not go does not keep others from going', () => {
  const queue = new WaitQueue<{ tenant: string; weight: number; may: boolean }>();
  const stuck = { tenant: 'a', weight: 1, may: false };
  const free = { tenant: 'a', weight: 1, may: true };
  queue.add(stuck);
  queue.add(free);
  expect(queue.take(({ may }) => may)).toBe(free);
  expect(queue.take(({ may }) => may)).toBeUndefined();
  queue.remove(stuck);
  queue.remove(stuck);
  expect(queue.length).toBe(0);
});
