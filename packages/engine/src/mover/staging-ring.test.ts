import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type RingPart, StagingRing } from './staging-ring.ts';

const operation = fc.oneof(
  fc.record({ kind: fc.constant('take' as const), bytes: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('extend' as const), bytes: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('release' as const), which: fc.nat(5) }),
);

test('parts that are in use never overlap, and an empty ring gives all of it', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
      const ring = new StagingRing(100);
      const used: RingPart[] = [];
      let newest: RingPart | null = null;
      for (const each of operations) {
        if (each.kind === 'take') {
          newest = ring.take(each.bytes) ?? newest;
          if (newest !== null && !used.includes(newest)) used.push(newest);
          if (used.length === 1 && newest !== used[0]) newest = null;
        } else if (each.kind === 'extend') {
          if (newest !== null && used.includes(newest)) ring.extend(newest, each.bytes);
        } else if (used.length > 0) {
          const [part] = used.splice(each.which % used.length, 1);
          if (part === newest) newest = null;
          ring.release(part!);
        }
        const taken = [...used].sort((a, b) => a.offsetBytes - b.offsetBytes);
        let end = 0;
        for (const { offsetBytes, bytes } of taken) {
          expect(offsetBytes).toBeGreaterThanOrEqual(end);
          end = offsetBytes + bytes;
        }
        expect(end).toBeLessThanOrEqual(100);
      }
      for (const part of used) ring.release(part);
      expect(ring.isEmpty).toBe(true);
      expect(ring.take(100)).toEqual({ offsetBytes: 0, bytes: 100 });
    }),
  );
});
