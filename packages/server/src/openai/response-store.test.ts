import { Dict } from '@bridgekeeper/engine/text';
import { expect, test } from 'vitest';
import { type KeptResponse, ResponseStore, type StoreLimits } from './response-store.ts';

let nowSeconds = 1000;
const store = (limits: Partial<StoreLimits> = {}) =>
  new ResponseStore(
    { maxBytes: 1e6, maxResponses: 100, keptSeconds: 60, ...limits },
    () => nowSeconds,
  );

const item = (id: string, text = 'x') =>
  new Dict([
    ['id', id],
    ['content', text],
  ]);

function kept(id: string, textUnits = 1): KeptResponse {
  const input = [item(`${id} in`, 'x'.repeat(textUnits))];
  const output = [item(`${id} out`)];
  const response = { id, created_at: nowSeconds };
  return { response, input, output, conversation: [...input, ...output] };
}

const held = (of: ResponseStore, tenant: string, ids: string) =>
  [...ids].filter((id) => of.find(tenant, id) !== undefined).join('');

test('a response is found by its tenant alone, until it is removed', () => {
  const some = store();
  some.keep('a', kept('1'));
  expect(some.find('a', '1')?.response.id).toBe('1');
  expect(some.find('b', '1')).toBeUndefined();
  expect(some.remove('b', '1')).toBe(false);
  expect(some.findItems('b', new Set(['1 in'])).size).toBe(0);
  expect([...some.findItems('a', new Set(['1 in', '1 out', '2 in'])).keys()]).toEqual([
    '1 in',
    '1 out',
  ]);
  expect(some.remove('a', '1')).toBe(true);
  expect(some.find('a', '1')).toBeUndefined();
  expect(some.bytes).toBe(0);
});

test('of too many the oldest goes', () => {
  const some = store({ maxResponses: 2 });
  for (const id of '123') some.keep('a', kept(id));
  expect(held(some, 'a', '123')).toBe('23');
});

test('when there is no room, the tenant that holds most loses its oldest', () => {
  const probe = store();
  probe.keep('a', kept('1', 1000));
  const some = store({ maxBytes: probe.bytes * 4.5 });
  some.keep('small', kept('s', 1000));
  for (const id of '123456') some.keep('large', kept(id, 1000));
  expect(held(some, 'small', 's')).toBe('s');
  expect(held(some, 'large', '123456')).toBe('456');
  expect(some.bytes).toBe(probe.bytes * 4);
});

test('what is larger than all room is not kept, and pushes nothing out', () => {
  const some = store({ maxBytes: 20_000 });
  some.keep('a', kept('1'));
  some.keep('a', kept('2', 20_000));
  expect(held(some, 'a', '12')).toBe('1');
  expect(store({ maxBytes: 0 }).isOpen).toBe(false);
});

test('a response is forgotten after its time', () => {
  const some = store();
  some.keep('a', kept('1'));
  nowSeconds += 59;
  some.keep('a', kept('2'));
  expect(held(some, 'a', '12')).toBe('12');
  nowSeconds += 1;
  some.expire();
  expect(held(some, 'a', '12')).toBe('2');
});
