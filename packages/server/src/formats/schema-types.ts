/** The types of JSON that a value may have. */
export type JsonType = 'string' | 'number' | 'integer' | 'boolean' | 'null' | 'object' | 'array';

const ALL: readonly JsonType[] = ['string', 'number', 'boolean', 'null', 'object', 'array'];
/** Of references and combinations within each other. */
const MAX_DEPTH = 16;

type Schema = Readonly<Record<string, unknown>>;

function asSchema(value: unknown): Schema | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  return isObject ? (value as Schema) : undefined;
}

/** The schema of one argument; undefined where the tool's schema does not name it. */
export function schemaOfArgument(parameters: unknown, name: string): unknown {
  const properties = asSchema(asSchema(parameters)?.properties);
  return properties !== undefined && Object.hasOwn(properties, name) ? properties[name] : undefined;
}

/**
 * The types that a schema lets through, as far as they can be told; all of them where it says
 * nothing. `root` is where its references point into.
 */
export function typesOf(schema: unknown, root: unknown, depth = 0): ReadonlySet<JsonType> {
  const known = asSchema(schema);
  if (known === undefined || depth > MAX_DEPTH) return new Set(ALL);
  const { type, anyOf, oneOf, allOf, $ref } = known;
  if (typeof type === 'string') return new Set([type as JsonType]);
  if (Array.isArray(type)) return new Set(type as JsonType[]);
  if (Array.isArray(known.enum)) return new Set(known.enum.map(typeOf));
  if ('const' in known) return new Set([typeOf(known.const)]);
  const options = anyOf ?? oneOf;
  if (Array.isArray(options)) {
    return new Set(options.flatMap((each) => [...typesOf(each, root, depth + 1)]));
  }
  if (Array.isArray(allOf) && allOf.length === 1) return typesOf(allOf[0], root, depth + 1);
  if (typeof $ref === 'string') return typesOf(schemaAt(root, $ref), root, depth + 1);
  if (known.properties !== undefined) return new Set(['object']);
  if (known.items !== undefined) return new Set(['array']);
  return new Set(ALL);
}

function typeOf(value: unknown): JsonType {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return typeof value as JsonType;
}

/** What a reference within the schema points to; undefined: nothing. */
export function schemaAt(root: unknown, reference: string): unknown {
  if (!reference.startsWith('#')) return undefined;
  let here = root;
  for (const part of reference.slice(1).split('/').slice(1)) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~');
    const at = asSchema(here);
    if (at === undefined || !Object.hasOwn(at, key)) return undefined;
    here = at[key];
  }
  return here;
}
