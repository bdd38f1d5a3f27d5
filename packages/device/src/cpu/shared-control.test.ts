import { describe, expect, it } from 'vitest';
import { SharedControl } from './shared-control.ts';

describe('SharedControl', () => {
  it('knows what is done, across the wrap of its counts', async () => {
    const control = new SharedControl();
    const last = 2 ** 31 - 1;
    control.complete(last);
    expect(control.isDone({ ticket: last - 5, copies: [] })).toBe(true);
    expect(control.isDone({ ticket: (last + 1) | 0, copies: [] })).toBe(false);
    control.complete((last + 1) | 0);
    expect(control.isDone({ ticket: (last + 1) | 0, copies: [] })).toBe(true);
    control.completeCopy(3, 7);
    await control.untilDone({ ticket: last, copies: [[3, 7]] });
    control.blockUntilCopied([[3, 6]]);
    expect(control.isCopied([3, 8])).toBe(false);
  });

  it('ends every wait when the device ends', async () => {
    const control = new SharedControl();
    const waiting = control.untilDone({ ticket: 1, copies: [] });
    control.end('closed');
    await expect(waiting).rejects.toMatchObject({ code: 'closed' });
    expect(() => control.blockUntilDone({ ticket: 1, copies: [] })).toThrow(/closed/);
    expect(() => control.blockUntilCopied([[0, 1]])).toThrow(/closed/);
    expect(() => control.barrier(2)).toThrow(/closed/);
    expect(control.awaitRing(0)).not.toBe(0);
  });

  it('tells a dead device from a closed one, and keeps the first end and the first failure', () => {
    const control = new SharedControl();
    control.fail('first');
    control.fail('second');
    expect(() => control.assertSound()).toThrow(/^first$/);
    control.end('dead');
    control.end('closed');
    expect(() => control.assertAlive()).toThrow(/^first$/);
  });
});
