import {
  COMMAND_HEADER,
  COMMAND_HEADER_WORDS,
  RECORD,
  RECORD_WORDS,
  TARGET,
  type Target,
} from './row-layout.ts';

/**
 * Packs the changes of one step into one crossing. Payload is gathered behind room for `maxRecords`
 * directory entries; `finish` closes the gap, so that no unused byte crosses. Ask `fits` first: a
 * command never grows past its buffer.
 */
export class CommandWriter {
  readonly #words: Int32Array;
  readonly #maxRecords: number;
  readonly #payloadStart: number;
  #records = 0;
  #end: number;

  constructor(words: Int32Array, maxRecords: number) {
    this.#words = words;
    this.#maxRecords = maxRecords;
    this.#payloadStart = COMMAND_HEADER_WORDS + maxRecords * RECORD_WORDS;
    this.#end = this.#payloadStart;
    if (this.#payloadStart > words.length) {
      throw new RangeError(`a command of ${words.length} words cannot hold ${maxRecords} records`);
    }
  }

  get records(): number {
    return this.#records;
  }

  fits(payloadWords: number, records = 1): boolean {
    return (
      this.#records + records <= this.#maxRecords && this.#end + payloadWords <= this.#words.length
    );
  }

  /** Reserves a record and returns where in the words its payload of `length` goes. */
  #reserve(target: Target, offset: number, length: number): number {
    if (!this.fits(length)) {
      throw new RangeError(`a command record of ${length} words does not fit`);
    }
    const record = COMMAND_HEADER_WORDS + this.#records * RECORD_WORDS;
    const payload = this.#end;
    this.#words[record + RECORD.TARGET] = target;
    this.#words[record + RECORD.OFFSET] = offset;
    this.#words[record + RECORD.LENGTH] = length;
    this.#words[record + RECORD.PAYLOAD] = payload;
    this.#records += 1;
    this.#end += length;
    return payload;
  }

  /** Writes `values` at word `offset` of `target`. */
  write(
    target: Exclude<Target, typeof TARGET.COUNTS>,
    offset: number,
    values: ArrayLike<number>,
  ): void {
    const payload = this.#reserve(target, offset, values.length);
    this.#words.set(values, payload);
  }

  /** The words at `offset` of `target`, to be filled before anything else is written. */
  room(target: Exclude<Target, typeof TARGET.COUNTS>, offset: number, length: number): Int32Array {
    const payload = this.#reserve(target, offset, length);
    return this.#words.subarray(payload, payload + length);
  }

  /** Restarts the token counts of `row` from what its prompt and output hold. */
  writeCounts(row: number, prompt: ArrayLike<number>, output: ArrayLike<number>): void {
    const payload = this.#reserve(TARGET.COUNTS, row, 1 + prompt.length + output.length);
    this.#words[payload] = prompt.length;
    this.#words.set(prompt, payload + 1);
    this.#words.set(output, payload + 1 + prompt.length);
  }

  /**
   * Completes the command and returns its size in bytes: upload that many. The writer is empty
   * again.
   */
  finish(): number {
    const directoryEnd = COMMAND_HEADER_WORDS + this.#records * RECORD_WORDS;
    const gap = this.#payloadStart - directoryEnd;
    this.#words.copyWithin(directoryEnd, this.#payloadStart, this.#end);
    for (let record = 0; record < this.#records; record++) {
      this.#words[COMMAND_HEADER_WORDS + record * RECORD_WORDS + RECORD.PAYLOAD]! -= gap;
    }
    const words = this.#end - gap;
    this.#words[COMMAND_HEADER.RECORDS] = this.#records;
    this.#words[COMMAND_HEADER.WORDS] = words;
    this.#records = 0;
    this.#end = this.#payloadStart;
    return words * 4;
  }
}
