import { expect, it } from 'vitest';
import { Watch } from './watch.ts';

it('lets nothing wait on once something has come', async () => {
  const watch = new Watch({} as never, { sequence: 0 });
  const watcher = watch.host('h');
  let waiting = 0;
  const wait = (over: AbortSignal) => {
    waiting += 1;
    return new Promise<void>((resolve) => {
      over.addEventListener('abort', () => {
        waiting -= 1;
        resolve();
      });
    });
  };
  const changes = [{ kind: 'host', id: 'h', from: 1, body: '{}' }];
  for (let sequence = 1; sequence <= 20; sequence += 1) {
    const next = watcher.next(wait);
    watch.committed({ sequence, atMs: 0, seconds: 0, changes, routing: [] });
    expect(await next).toEqual(['h']);
  }
  expect(waiting).toBe(0);
});
