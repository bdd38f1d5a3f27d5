import { describe, expect, it } from 'vitest';
import type { EngineShare } from '../request/request.ts';
import { GREEDY } from '../request/sampling.ts';
import { FairQueue } from './fair-queue.ts';
import { Sequence } from './sequence.ts';

/** A queue and the requests that were put into it, which arrive one after the other. */
class Owners {
  readonly queue = new FairQueue();
  #arrivals = 0;

  make(tenant: string, share?: EngineShare, length = 1): Sequence {
    const arrival = this.#arrivals++;
    const request = {
      id: `${tenant} ${arrival}`,
      tenant,
      ...(share === undefined ? {} : { share }),
      promptTokens: new Uint32Array(length),
      sampling: GREEDY,
    };
    return new Sequence(request, 0n, arrival, 0);
  }

  add(tenant: string, share?: EngineShare, length = 1): Sequence {
    const sequence = this.make(tenant, share, length);
    this.queue.add(sequence);
    return sequence;
  }

  take(sequence: Sequence): Sequence {
    this.queue.take(sequence);
    sequence.phase = 'decode';
    return sequence;
  }

  /** Requests in rows, of owners that began together, each computed for so many tokens. */
  served(tokens: Readonly<Record<string, number>>, share?: EngineShare): Sequence[] {
    const all = Object.keys(tokens).map((tenant) => this.take(this.add(tenant, share)));
    for (const each of all) this.queue.charge(each, tokens[each.request.tenant]!);
    return all;
  }
}

describe('which request goes next', () => {
  it('is the owner that had least, then the one with fewer rows, then the earlier', () => {
    const owners = new Owners();
    owners.served({ busy: 10, calm: 4 });
    const late = owners.add('busy');
    const next = owners.add('calm');
    expect(owners.queue.first).toBe(next);
    owners.take(next);
    expect(owners.queue.first).toBe(late);
  });

  it('at equal service is the owner with fewer rows, whoever came first', () => {
    const owners = new Owners();
    const a = [owners.add('a'), owners.add('a')];
    const b = owners.add('b');
    expect(owners.queue.first).toBe(a[0]);
    owners.take(a[0]!);
    expect(owners.queue.first).toBe(b);
    owners.take(b);
    expect(owners.queue.first).toBe(a[1]);
  });

  it('does not depend on whose account is older', () => {
    const owners = new Owners();
    const [first, second] = [owners.make('a'), owners.make('b')];
    owners.queue.add(second);
    owners.queue.add(first);
    expect(owners.queue.first).toBe(first);
    // With rows: the older account has one, the younger none.
    owners.take(second);
    const more = owners.add('b');
    expect(owners.queue.first).toBe(first);
    owners.take(first);
    expect(owners.queue.first).toBe(more);
  });

  it('of one owner is the shorter prompt, until as much was computed as the longer one has', () => {
    const owners = new Owners();
    const share = { owner: 'key', weight: 2 };
    const busy = owners.take(owners.add('t', share));
    const long = owners.add('t', share, 10);
    const short = owners.add('t', share, 2);
    expect(owners.queue.first).toBe(short);
    owners.take(short);
    // Ten tokens are five of service for a weight of two, and twelve are six.
    owners.queue.charge(busy, 12);
    owners.add('t', share, 2);
    expect(owners.queue.first).toBe(long);
  });

  it('is none where nobody waits who may have another row', () => {
    const owners = new Owners();
    const share = { owner: 'key', weight: 1, maxRows: 1 };
    expect(owners.queue.first).toBeUndefined();
    const held = owners.take(owners.add('t', share));
    const waiting = owners.add('t', share);
    expect(owners.queue.first).toBeUndefined();
    held.phase = 'finished';
    owners.queue.leave(held);
    expect(owners.queue.first).toBe(waiting);
  });
});

describe('who owns a request', () => {
  it('is who the share names, whatever the tenant', () => {
    const owners = new Owners();
    const share = { owner: 'key', weight: 1 };
    const one = owners.take(owners.add('first salt', share));
    const two = owners.take(owners.add('second salt', share));
    expect(owners.queue.rowsOf(one)).toBe(2);
    expect(owners.queue.rowsOf(two)).toBe(2);
    expect(owners.queue.owners).toBe(1);
  });

  it('is the tenant where no share is named', () => {
    const owners = new Owners();
    owners.add('a');
    owners.add('b');
    expect(owners.queue.owners).toBe(2);
  });

  it('may have any number of rows unless the share says how many', () => {
    const owners = new Owners();
    for (let i = 0; i < 50; i++) owners.take(owners.add('a'));
    const next = owners.add('a');
    expect(owners.queue.first).toBe(next);
  });
});

describe('what an owner has had', () => {
  it('is tokens over its weight, which is 1 where none is named', () => {
    const owners = new Owners();
    const heavy = { owner: 'heavy', weight: 2 };
    const [first, other] = [owners.take(owners.add('h', heavy)), owners.take(owners.add('plain'))];
    const [h, plain] = [owners.add('h', heavy), owners.add('plain')];
    owners.queue.charge(first, 10);
    owners.queue.charge(other, 6);
    // 10 / 2 = 5 is less than 6 / 1.
    expect(owners.queue.first).toBe(h);
    owners.queue.charge(h, 3);
    expect(owners.queue.first).toBe(plain);
  });

  it('counts each token of a sequence once, also when it is computed again', () => {
    const owners = new Owners();
    const [again, other] = owners.served({ again: 10, other: 9 }) as [Sequence, Sequence];
    // A prompt computed again counts neither for nor against.
    owners.queue.charge(again, 4);
    expect(owners.queue.compare(again, other)).toBe(1);
    owners.queue.charge(again, 10);
    owners.queue.charge(again, 11);
    expect(owners.queue.compare(again, other)).toBe(2);
  });

  it('sorts rows: the most served last, among equals the latest last', () => {
    const owners = new Owners();
    const [greedy, late] = owners.served({ greedy: 20, modest: 5 }) as [Sequence, Sequence];
    const latest = owners.take(owners.add('modest'));
    const rows = [greedy, latest, late];
    expect(rows.sort((a, b) => owners.queue.compare(a, b))).toEqual([late, latest, greedy]);
  });
});

describe('an owner that comes back', () => {
  const end = (owners: Owners, sequence: Sequence) => {
    sequence.phase = 'finished';
    owners.queue.leave(sequence);
  };

  it('begins with what the least served of the others has had', () => {
    const owners = new Owners();
    const [, least] = owners.served({ most: 100, least: 40 });
    const fresh = owners.take(owners.add('fresh'));
    // As much as the least served, so that what is due first decides; a token more, and that does.
    const isLater = Math.sign(fresh.due - least!.due);
    expect(Math.sign(owners.queue.compare(fresh, least!))).toBe(isLater);
    owners.queue.charge(least!, 41);
    expect(owners.queue.compare(fresh, least!)).toBeLessThan(0);
  });

  it('has what it had, if that is more: idleness does not wash it off', () => {
    const owners = new Owners();
    const [stays, greedy] = owners.served({ stays: 10, greedy: 100 }) as [Sequence, Sequence];
    end(owners, greedy);
    const back = owners.take(owners.add('greedy'));
    owners.queue.charge(stays, 99);
    expect(owners.queue.compare(stays, back)).toBeLessThan(0);
    owners.queue.charge(stays, 101);
    expect(owners.queue.compare(stays, back)).toBeGreaterThan(0);
  });

  it('is taken up to the others where they overtook it while it was away', () => {
    const owners = new Owners();
    const [away, stays] = owners.served({ away: 50, stays: 10 }) as [Sequence, Sequence];
    end(owners, away);
    owners.queue.charge(stays, 80);
    const back = owners.take(owners.add('away'));
    owners.queue.charge(back, 1);
    expect(owners.queue.compare(stays, back)).toBeLessThan(0);
  });

  it('with work in hand keeps its account as it is', () => {
    const owners = new Owners();
    const [behind, ahead] = owners.served({ behind: 5, ahead: 50 }) as [Sequence, Sequence];
    owners.add('behind');
    expect(owners.queue.compare(behind, ahead)).toBeLessThan(0);
    owners.queue.charge(behind, 49);
    expect(owners.queue.compare(behind, ahead)).toBeLessThan(0);
  });

  it.each<[string, EngineShare | undefined, (owners: Owners, slow: Sequence) => void]>([
    ['comes', undefined, (owners) => owners.add('slow')],
    [
      'may have a row that it might not have before',
      { owner: 'slow', weight: 1, maxRows: 1 },
      (owners, slow) => {
        owners.add('slow', { owner: 'slow', weight: 1, maxRows: 1 });
        end(owners, slow);
      },
    ],
    ['lost its row', undefined, (owners, slow) => owners.queue.giveBack(slow)],
  ])('has had no less than who was given a row last, once a request %s', (_, share, returns) => {
    const owners = new Owners();
    const slow = owners.take(owners.add('slow', share));
    const quick = owners.take(owners.add('quick'));
    owners.queue.charge(quick, 50);
    // Nobody else wanted that row.
    owners.queue.charge(owners.take(owners.add('quick')), 1);
    const [before, less] = [owners.add('quick'), owners.add('other')];
    returns(owners, slow);
    owners.queue.charge(owners.take(less), 50);
    // At 50 as it was at its last row; one token more and the other would be before it.
    const next = owners.queue.first!;
    expect(next.request.tenant).toBe('slow');
    owners.queue.charge(next, 2);
    expect(owners.queue.first).toBe(before);
  });

  it('alone begins at the beginning', () => {
    const owners = new Owners();
    for (const each of owners.served({ a: 50 })) end(owners, each);
    // Nobody else is there: what was had is forgotten, and both begin alike.
    const [b, a] = [owners.take(owners.add('b')), owners.take(owners.add('a'))];
    owners.queue.charge(b, 2);
    owners.queue.charge(a, 1);
    expect(owners.queue.compare(a, b)).toBeLessThan(0);
  });

  it('is not forgotten while others have had less', () => {
    const owners = new Owners();
    const all = owners.served({ stays: 10, greedy: 100, small: 1 });
    const [stays] = all as [Sequence];
    for (const each of all.slice(1)) end(owners, each);
    const [small, greedy] = [owners.add('small'), owners.add('greedy')];
    expect(owners.queue.first).toBe(small);
    owners.take(small);
    expect(owners.queue.first).toBe(greedy);
    expect(owners.queue.compare(stays, greedy)).toBeLessThan(0);
  });

  it('is forgotten once the others caught up, so that accounts do not pile up', () => {
    const owners = new Owners();
    const [stays, ...gone] = owners.served({ stays: 1, one: 10, two: 10, three: 9 });
    for (const sequence of gone) end(owners, sequence);
    expect(owners.queue.rowsOf(gone[0]!)).toBe(0);
    owners.queue.charge(stays!, 10);
    const last = owners.add('last');
    owners.queue.leave(last);
    for (const each of gone) {
      expect(() => owners.queue.rowsOf(each)).toThrow('who has requests has an account');
    }
    expect(owners.queue.rowsOf(stays!)).toBe(1);
  });
});

describe('the queue', () => {
  it('gives all that wait and are wanted in order of arrival, over owners', () => {
    const owners = new Owners();
    const sequences = ['b', 'a', 'b', 'a', 'c'].map((tenant) => owners.add(tenant));
    expect(owners.queue.all()).toEqual(sequences);
    const wanted = owners.queue.all(({ request }) => request.tenant !== 'b');
    expect(wanted).toEqual([sequences[1], sequences[3], sequences[4]]);
    owners.take(sequences[0]!);
    expect(owners.queue.all()).toEqual(sequences.slice(1));
    expect(owners.queue).toMatchObject({ length: 4, owners: 3 });
  });

  it('puts what lost its row back where it was, and counts the row no more', () => {
    const owners = new Owners();
    const [first, second, third] = ['a', 'a', 'a'].map((tenant) => owners.add(tenant));
    owners.take(first!);
    owners.take(second!);
    owners.queue.giveBack(second!);
    second!.phase = 'waiting';
    expect(owners.queue.rowsOf(first!)).toBe(1);
    expect(owners.queue.all()).toEqual([second, third]);
    expect(owners.queue.length).toBe(2);
    owners.queue.giveBack(first!);
    first!.phase = 'waiting';
    expect(owners.queue.all()).toEqual([first, second, third]);
    expect(owners.queue.rowsOf(first!)).toBe(0);
  });

  it('knows owners that have anything, waiting or in rows', () => {
    const owners = new Owners();
    const waiting = owners.add('a');
    const [held, apart] = owners.served({ b: 5, c: 3 }) as [Sequence, Sequence];
    expect(owners.queue.owners).toBe(3);
    owners.queue.leave(waiting);
    expect(owners.queue).toMatchObject({ owners: 2, length: 0 });
    held.phase = 'finished';
    owners.queue.leave(held);
    // It had more than c, so that its account is kept, but it has nothing.
    expect(owners.queue.owners).toBe(1);
    expect(owners.queue.rowsOf(held)).toBe(0);
    expect(owners.queue.rowsOf(apart)).toBe(1);
  });

  it('says whether one that waits is wanted, of whichever owner', () => {
    const owners = new Owners();
    const isLong = ({ length }: Sequence) => length > 1;
    expect(owners.queue.has(() => true)).toBe(false);
    owners.add('a');
    expect([owners.queue.has(() => true), owners.queue.has(isLong)]).toEqual([true, false]);
    const long = owners.add('b', undefined, 2);
    expect(owners.queue.has(isLong)).toBe(true);
    owners.take(long);
    expect(owners.queue.has(isLong)).toBe(false);
  });

  it('notices what was never in it', () => {
    const owners = new Owners();
    const stranger = owners.make('a');
    expect(() => owners.queue.rowsOf(stranger)).toThrow('who has requests has an account');
    owners.add('a');
    expect(() => owners.queue.take(stranger)).toThrow('what leaves the queue was in it');
  });
});
