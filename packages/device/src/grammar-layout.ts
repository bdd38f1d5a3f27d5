/**
 * What the compiler of grammars, the host and the kernels agree on: the layout of a compiled
 * grammar, of a row's place in it, and of the vocabulary. All in 32-bit words, little-endian. The
 * CUDA sources get these names as #defines, as those of row-layout.ts.
 *
 * A compiled grammar is a deterministic automaton over bytes with a stack of frames
 * (return state, count). On a byte, the entry of (state, class of the byte) says where to go. Where
 * there is none, and the state is final and the top frame's count is at least the state's minimum,
 * the frame is popped and the byte is tried in its return state. Counted repetitions are frames
 * whose count is compared with a maximum.
 */

/** Words of a grammar's header; offsets are in words from its start. */
export const GRAMMAR = {
  WORDS: 0,
  STATES: 1,
  CLASSES: 2,
  START: 3,
  /** The state to which a row goes when its thinking budget is used up; NO_STATE where none. */
  FORCED: 4,
  /** u32 [STATES, CLASSES] of entries. */
  TABLE: 5,
  /** u32 [STATES] of state information. */
  INFO: 6,
  /** Where move records begin; entries with MOVE count from here. */
  MOVES: 7,
  /** 256 bytes: the class of each byte. */
  CLASS_OF_BYTE: 8,
} as const;
export const GRAMMAR_HEADER_WORDS = 8 + 64;
export const NO_STATE = 0xffffffff;

/**
 * An entry: 0 is none, GOTO_ENTRY | state, or MOVE_ENTRY | word offset of a move record from MOVES.
 */
export const GOTO_ENTRY = 0x40000000;
export const MOVE_ENTRY = 0x80000000;
export const ENTRY_VALUE = 0x3fffffff;

/**
 * A move: where MAXIMUM is not 0, the top frame's count must be below it and is raised by one; then
 * FRAMES frames [return state, count] are pushed, the outermost first; then the state is TARGET.
 */
export const MOVE = { MAXIMUM: 0, TARGET: 1, FRAMES: 2, FRAME: 3 } as const;

/** State information: flags, and in the low bits the least count with which it may pop. */
export const STATE_FINAL = 0x80000000;
/** Tokens that end in this state count against the thinking budget. */
export const STATE_THINKING = 0x40000000;
/** It is final and has no entries: with an empty stack the text is complete. */
export const STATE_COMPLETE = 0x20000000;
export const STATE_MINIMUM = 0x00ffffff;

/** A row's place in its grammar. */
export const GRAMMAR_ROW = {
  /** Word offset of its grammar in the pool. Rows with ROW_FLAG.GRAMMAR have one. */
  GRAMMAR: 0,
  STATE: 1,
  DEPTH: 2,
  /** Tokens that may still be spent on thinking; negative: as many as it likes. */
  BUDGET: 3,
  /** DEPTH frames of [return state, count]. */
  STACK: 4,
} as const;
export const MAX_GRAMMAR_DEPTH = 62;
export const GRAMMAR_ROW_WORDS = 4 + 2 * MAX_GRAMMAR_DEPTH;

/**
 * Frames of the stack that one token pushed or counted in, at any of its bytes: a token that needs
 * more is not admitted. So a thread that tries a token copies few frames and not the row's stack.
 */
export const MAX_TOKEN_FRAMES = 16;

/**
 * u32 [vocab], where a token's bytes are: word offset << 8 | length. Length 0: the token is never
 * admitted (except as a stop id, where the text may end).
 */
export const TOKEN_SPAN_SHIFT = 8;
export const MAX_TOKEN_BYTES = 255;

/**
 * A control token's bytes: this one, which occurs in no text, and its id in three bytes of seven
 * bits, the highest first.
 */
export const CONTROL_TOKEN_BYTE = 0xff;
/** Bytes from this one on occur in no UTF-8 text: a token with one of them is never admitted. */
export const FIRST_NO_TEXT_BYTE = 0xf8;

/**
 * u32 [vocab], what a token is made of: its first byte, and above it a bit for each group of
 * characters that occurs in it. Where all its groups leave a row where it is, as most characters do
 * in a string, the token is admitted without being stepped through.
 */
export const TOKEN_GROUPS_SHIFT = 8;
/** Well-formed characters beyond ASCII. */
export const WIDE_GROUP = 22;
/** What is no whole character: parts of one, control tokens, and tokens of no text. */
export const NO_GROUP = 23;

/** Characters of ASCII that grammars tend to treat alike; letters and controls come last. */
const GROUPS = [
  ...['\t\n\r', ' ', '"', "'", '\\', '<', '>', '{}', '[]', '()', ',', ':', ';', '.', '+-'],
  ...['*/', '_', '!#$%&=?@^`|~', '0123456789', 'abcdefghijklmnopqrstuvwxyz'],
  'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
] as const;
const OTHER_GROUP = GROUPS.length;

/** The group of each byte of ASCII. */
export const GROUP_OF_BYTE: readonly number[] = Array.from({ length: 128 }, (_, byte) => {
  const group = GROUPS.findIndex((bytes) => bytes.includes(String.fromCharCode(byte)));
  return group < 0 ? OTHER_GROUP : group;
});

/**
 * Characters beyond ASCII in UTF-8 (table 3-7 of the Unicode standard), five numbers for each line
 * of it: first and last leading byte, first and last second byte, and how many bytes from 0x80 to
 * 0xbf follow.
 */
export const WIDE_CHARACTERS: readonly number[] = [
  ...[0xc2, 0xdf, 0x80, 0xbf, 0],
  ...[0xe0, 0xe0, 0xa0, 0xbf, 1],
  ...[0xe1, 0xec, 0x80, 0xbf, 1],
  ...[0xed, 0xed, 0x80, 0x9f, 1],
  ...[0xee, 0xef, 0x80, 0xbf, 1],
  ...[0xf0, 0xf0, 0x90, 0xbf, 2],
  ...[0xf1, 0xf3, 0x80, 0xbf, 2],
  ...[0xf4, 0xf4, 0x80, 0x8f, 2],
];
export const WIDE_CHARACTER_FIELDS = 5;

/** Words of one line of masks: a bit for each token, the lowest ids in the lowest bits. */
export function maskWords(vocab: number): number {
  return Math.ceil(vocab / 32);
}
