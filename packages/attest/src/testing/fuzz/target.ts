import { type Bytes, fromUtf8 } from '../../core/bytes.ts';
import type { AttestErrorCode } from '../../core/errors.ts';

/** What mutations are made of, and who is fed with them. */
export interface FuzzCase {
  readonly bases: readonly Bytes[];
  /** Returns, throws AttestError, or throws WronglyAccepted: anything else is a bug. */
  readonly parse: (input: Bytes) => unknown;
}

/** A parser, or a verification that begins with it, to be fed with mutations of valid inputs. */
export interface FuzzTarget {
  readonly name: string;
  /** Of a campaign's inputs, relative to the other targets: many where an input costs little. */
  readonly share: number;
  /** Modules of this package that it is to reach: paths under the sources, without extension. */
  readonly reaches: readonly string[];
  /** Refusals that mutations must come to: else the parser turns them away at its door. */
  readonly refuses: readonly AttestErrorCode[];
  prepare(): Promise<FuzzCase>;
}

/** A parser of text as one of bytes. */
export const ofText =
  (read: (text: string) => unknown) =>
  (input: Bytes): unknown =>
    read(fromUtf8(input, 'the input'));
