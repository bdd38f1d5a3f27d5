import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StopMatcher } from './stop-matcher.ts';

/** The stop string that is complete first, longest first, searched for in the whole text. */
function naive(text: string, stops: readonly string[], includeStop: boolean) {
  for (let end = 1; end <= text.length; end++) {
    const shown = text.slice(0, end);
    const matches = stops.filter((stop) => stop !== '' && shown.endsWith(stop));
    const longest = matches.sort((a, b) => b.length - a.length)[0];
    if (longest === undefined) continue;
    const keep = includeStop ? end : end - longest.length;
    return { text: text.slice(0, keep), matched: longest };
  }
  return { text, matched: undefined };
}

function inPieces(matcher: StopMatcher, pieces: readonly string[]) {
  let text = '';
  for (const piece of pieces) {
    const push = matcher.push(piece);
    text += push.text;
    if (push.matched !== undefined) return { text, matched: push.matched };
  }
  return { text: text + matcher.finish(), matched: undefined };
}

/** Few letters, so that stop strings overlap themselves, each other and the text. */
const letters = (maxLength: number) =>
  fc.string({ unit: fc.constantFrom('a', 'b', 'é'), maxLength });

describe('stop strings', () => {
  test('text in pieces ends where a search of the whole would end it', () => {
    fc.assert(
      fc.property(
        fc.array(letters(4), { maxLength: 20 }),
        fc.array(letters(5), { maxLength: 4 }),
        fc.boolean(),
        (pieces, stops, includeStop) => {
          const found = inPieces(new StopMatcher(stops, includeStop), pieces);
          expect(found).toEqual(naive(pieces.join(''), stops, includeStop));
        },
      ),
      { numRuns: 3000 },
    );
  });

  test('nothing is held back that cannot become a stop string', () => {
    fc.assert(
      fc.property(
        fc.array(letters(4), { maxLength: 20 }),
        fc.array(letters(5), { maxLength: 4 }),
        (pieces, stops) => {
          const matcher = new StopMatcher(stops);
          let shown = '';
          let text = '';
          for (const piece of pieces) {
            text += piece;
            const push = matcher.push(piece);
            shown += push.text;
            if (push.matched !== undefined) return;
            const held = text.slice(shown.length);
            const canGrow = stops.some((stop) => stop.startsWith(held) && stop !== held);
            expect(held === '' || canGrow).toBe(true);
          }
        },
      ),
    );
  });

  test('an example', () => {
    const matcher = new StopMatcher(['\n\nUser:', 'END'], true);
    expect(matcher.push('Hello\n')).toEqual({ text: 'Hello' });
    expect(matcher.push('\nUs')).toEqual({ text: '' });
    expect(matcher.push('age. E')).toEqual({ text: '\n\nUsage. ' });
    expect(matcher.push('ND of story')).toEqual({ text: 'END', matched: 'END' });
  });
});
