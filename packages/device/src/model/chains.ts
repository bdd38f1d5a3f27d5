import type { AttentionArgs } from '../cost.ts';
import { gatherPages, scatterPages } from '../cpu/kernels/pages.ts';
import { place } from '../cpu/kernels/place.ts';
import { isRow } from '../cpu/kernels/rows.ts';
import type { Slice } from '../device.ts';
import { hashTreeOf } from '../hash-tree.ts';
import type { OpArgs, OpName } from '../ops.ts';
import { checkPagedParts } from '../paged-parts.ts';
import { storedElementBytes } from '../placement.ts';
import { hash32, mix32 } from '../random.ts';
import { ROW, ROW_WORDS } from '../row-layout.ts';
import { bufferOf, wordsOf } from './memory.ts';

/** What KV holds of a token at a position. Never 0, which is memory that nothing was written to. */
export function chainWord(token: number, position: number): number {
  return mix32((Math.imul(token + 1, 0x9e3779b9) ^ position) | 0) | 1;
}

/** Takes in one more word of what a token attends to. */
export function chainOn(chain: number, word: number): number {
  return mix32((Math.imul(chain, 0x85ebca6b) ^ word) | 0);
}

/**
 * The token after everything that `chain` has taken in. `seed`: of a row that samples; null where
 * it is greedy.
 */
export function chainToken(
  chain: number,
  seed: { readonly low: number; readonly high: number; readonly generated: number } | null,
  vocab: number,
): number {
  const drawn = seed === null ? 0 : hash32(seed.low ^ chain, seed.high, seed.generated);
  return mix32(chain ^ drawn) % vocab;
}

/**
 * A language model of integers, for a modelled GPU whose KV has contents: what a token leaves in
 * its page is a word of itself and its position, and the next token is a hash of all words that
 * the row's page table leads to, in the first layer of each pool of pages: where that layer sees a
 * window, of the words within it. What two pools have is added up. A page that belongs to somebody
 * else, was given back too early, came back from a store wrong or was read before it was there
 * gives other tokens than the prompt alone says (`chainWord`, `chainOn`, `chainToken`).
 */
export class Chains {
  /** Of the batch that is computed now, and where they begin in their buffer, in words. */
  #tokens: Int32Array | null = null;
  #firstToken = 0;
  /** By row and position: what tokens of a batch attended to, of the last batch with the row. */
  readonly #contexts = new Map<number, Map<number, number>>();
  /** The same within windows. */
  readonly #windows = new Map<number, Map<number, number>>();

  /** What runs for real when this operation does; undefined: what runs without chains. */
  bookkeepingOf<Name extends OpName>(name: Name, args: OpArgs[Name]): (() => void) | undefined {
    if (name === 'embed') return this.#embed(args as OpArgs['embed']);
    if (name === 'attention') {
      const attention = args as OpArgs['attention'];
      const isFirst = attention.layerElement === 0 && attention.lineKv !== 'none';
      return isFirst ? this.#attention(attention) : undefined;
    }
    if (name === 'latent-attention') {
      const attention = args as OpArgs['latent-attention'];
      return attention.layerElement === 0 ? this.#attention(attention) : undefined;
    }
    if (name === 'sample') return this.#sample(args as OpArgs['sample']);
    if (name === 'gather-pages') return gather(args as OpArgs['gather-pages']);
    if (name === 'scatter-pages') return scatter(args as OpArgs['scatter-pages']);
    if (name === 'place') return placing(args as OpArgs['place']);
    if (name === 'hash-tree') return hashing(args as OpArgs['hash-tree']);
    return undefined;
  }

  #embed({ tokens }: OpArgs['embed']): () => void {
    const words = wordsOf(tokens);
    return () => {
      this.#tokens = words;
      this.#firstToken = tokens.offsetBytes / 4;
    };
  }

  #attention(args: AttentionArgs): () => void {
    const { count, pageTokens, pagesPerRow } = args;
    const window = 'window' in args ? args.window : 0;
    const chainsByRow = window > 0 ? this.#windows : this.#contexts;
    const kv = wordsOf(args.kv);
    const pageTable = wordsOf(args.pageTable);
    const tokenRows = wordsOf(args.tokenRows);
    const positions = wordsOf(args.positions);
    const pageWords = wordsPerPage(args);
    const pages = Math.floor(kv.length / pageWords);
    const at = (row: number, position: number) => {
      const page = pageTable[row * pagesPerRow + Math.floor(position / pageTokens)]!;
      return page >= 0 && page < pages ? page * pageWords + (position % pageTokens) : -1;
    };
    // Decode rows and prompts share a batch: each attention is of a part of its lines.
    const firstLine = args.tokenRows.offsetBytes / 4;
    return () => {
      const tokens = this.#tokens!;
      const skipped = firstLine - this.#firstToken;
      const ends = new Map<number, Set<number>>();
      for (let i = 0; i < count; i++) {
        const row = tokenRows[i]!;
        if (row < 0) continue;
        const position = positions[i]!;
        const place = at(row, position);
        if (place >= 0) kv[place] = chainWord(tokens[skipped + i]!, position);
        const own = ends.get(row) ?? new Set();
        ends.set(row, own.add(position));
      }
      const chainOf = (row: number, chain: number, position: number) => {
        const place = at(row, position);
        return chainOn(chain, place < 0 ? 0 : kv[place]!);
      };
      for (const [row, own] of ends) {
        const chains = new Map<number, number>();
        if (window > 0) {
          for (const end of own) {
            let chain = 0;
            const first = Math.max(0, end - window + 1);
            for (let position = first; position <= end; position++) {
              chain = chainOf(row, chain, position);
            }
            chains.set(end, chain);
          }
        } else {
          let chain = 0;
          const [first, last] = [Math.min(...own), Math.max(...own)];
          for (let position = 0; position <= last; position++) {
            chain = chainOf(row, chain, position);
            if (position >= first && own.has(position)) chains.set(position, chain);
          }
        }
        chainsByRow.set(row, chains);
      }
    };
  }

  #sample(args: OpArgs['sample']): () => void {
    const { rows: rowSlice, lineRows, sampled, count, linesPerRow, vocab } = args;
    const rows = wordsOf(rowSlice);
    const rowOf = wordsOf(lineRows);
    const out = wordsOf(sampled);
    return () => {
      for (let i = 0; i < count; i++) {
        const row = rowOf[i]!;
        if (!isRow(rows, row)) continue;
        const state = row * ROW_WORDS;
        const isGreedy = rows[state + ROW.TEMPERATURE] === 0;
        const low = rows[state + ROW.SEED_LO]!;
        const high = rows[state + ROW.SEED_HI]!;
        const offset = i % linesPerRow;
        const seed = { low, high, generated: rows[state + ROW.GENERATED]! + offset };
        const position = rows[state + ROW.POSITION]! + offset;
        const ofAll = this.#contexts.get(row)?.get(position) ?? 0;
        const chain = (ofAll + (this.#windows.get(row)?.get(position) ?? 0)) | 0;
        out[i] = chainToken(chain, isGreedy ? null : seed, vocab);
      }
    };
  }
}

/** Words of a page over all layers. The first layer's words are first. */
function wordsPerPage(args: AttentionArgs) {
  const isNarrow = 'kvFormat' in args && args.kvFormat !== 'element';
  return (args.pageElements * (isNarrow ? 1 : 2)) / 4;
}

function gather({ out, ...parts }: OpArgs['gather-pages']): () => void {
  checkPagedParts(parts, out);
  return () => gatherPages(bytesOf(parts.kv), bytesOf(out), parts, ALL);
}

function scatter({ input, ...parts }: OpArgs['scatter-pages']): () => void {
  checkPagedParts(parts, input);
  return () => scatterPages(bytesOf(input), bytesOf(parts.kv), parts, ALL);
}

const ALL = { part: 0, parts: 1 } as const;

function bytesOf(slice: Slice): Uint8Array {
  return new Uint8Array(bufferOf(slice).contents, slice.offsetBytes, slice.bytes);
}

const ALONE = { part: 0, parts: 1 } as const;

/** Weights are there as well: what crossed is placed, and what a seal says of it is compared. */
function placing({ input, out, ...shape }: OpArgs['place']): () => void {
  const [from, to] = [bufferOf(input), bufferOf(out)];
  const bytes = shape.inputOffsetBytes + shape.count * storedElementBytes(shape.from);
  return () => {
    const piece = from.all.subarray(input.offsetBytes, input.offsetBytes + bytes);
    const target = to.all.subarray(out.offsetBytes, out.offsetBytes + out.bytes);
    place(piece.subarray(shape.inputOffsetBytes), target, shape, ALONE);
  };
}

function hashing({ input, bytes, leafBytes, out }: OpArgs['hash-tree']): () => void {
  const [from, to] = [bufferOf(input), bufferOf(out)];
  return () => {
    const data = from.all.subarray(input.offsetBytes, input.offsetBytes + bytes);
    to.all.set(hashTreeOf(data, leafBytes), out.offsetBytes);
  };
}
