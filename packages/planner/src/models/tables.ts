/** Layers by what they keep of a request: every token, a window of them, or a state. */
export interface LayerCounts {
  readonly full: number;
  readonly sliding: number;
  readonly linear: number;
}

/** What an engine keeps of a model on the host, for each row, and tells the device of. */
export interface ModelTables {
  /** Tables of KV blocks. */
  readonly kvGroups: number;
  /** Tables of recurrent states: one entry a row. */
  readonly stateGroups: number;
  /** Rows of positions that the host computes (M-RoPE); 0: the device does. */
  readonly positionRows: number;
  /** Layers whose attention is recurrent, of all. */
  readonly linearLayers: number;
}

/** Of layers of two kinds, whose numbers are so near, vLLM makes one group of each. */
const NEARLY_AS_MANY = 1.25;
/** Time, height and width. */
const MROPE_ROWS = 3;

/**
 * As vLLM groups layers that share a table (`kv_cache_utils.py`): of one kind each, and as many in
 * a group as there are of the rarest kind, so that all groups' pages have one size.
 */
export function tablesOf(
  counts: LayerCounts,
  config: Readonly<Record<string, unknown>>,
): ModelTables {
  const { full, sliding, linear } = counts;
  const present = [full, sliding, linear].filter((count) => count > 0);
  const [least, most] = [Math.min(...present), Math.max(...present)];
  const size = most < NEARLY_AS_MANY * least ? most : least;
  const groups = (count: number) => Math.ceil(count / size);
  return {
    kvGroups: groups(full) + groups(sliding),
    stateGroups: groups(linear),
    positionRows: usesMrope(config) ? MROPE_ROWS : 0,
    linearLayers: linear,
  };
}

function usesMrope(config: Readonly<Record<string, unknown>>): boolean {
  const { text_config: text = config } = config;
  const { rope_parameters, rope_scaling } = (text ?? {}) as Readonly<Record<string, unknown>>;
  const has = (rope: unknown) =>
    typeof rope === 'object' && rope !== null && 'mrope_section' in rope;
  return has(rope_parameters) || has(rope_scaling);
}
