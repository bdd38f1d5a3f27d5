const LF = 10;
const CR = 13;

/** Where the last whole event in these bytes ends; 0: none does. */
export function endOfEvents(bytes: Uint8Array): number {
  for (let at = bytes.length; at >= 2; at--) {
    if (isEnd(bytes, at)) return at;
  }
  return 0;
}

/** Whether an event ends before `at`. */
export function isEnd(bytes: Uint8Array, at: number): boolean {
  if (bytes[at - 1] !== LF) return false;
  if (bytes[at - 2] === LF) return true;
  return bytes[at - 2] === CR && bytes[at - 3] === LF;
}

/** How many events end in these bytes. */
export function countEvents(bytes: Buffer, start: number, end: number): number {
  let count = 0;
  for (let at = bytes.indexOf(LF, start); at >= 0 && at < end; at = bytes.indexOf(LF, at + 1)) {
    if (at > start && isEnd(bytes, at + 1)) count += 1;
  }
  return count;
}
