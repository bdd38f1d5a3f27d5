// node scripts/json-schema-bench.mjs <jsonschemabench>/maskbench/data [--every n] [--from i]
//   [--only name] [--samples n] [--out file] [--verbose]
//
// Compiles every schema of guidance-ai/jsonschemabench's MaskBench, and holds what is compiled to
// its instances and to ajv:
//
//   passing              compiles, admits every valid instance and refuses every invalid one
//   validation error     a valid instance is refused, in whatever order its properties are written
//   invalidation error   an invalid instance is admitted
//   refused              by code of GrammarError
//   unsound              a sampled text is admitted that ajv does not validate
//
// An instance is tried as it is written; where it is refused, with its properties in another order.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Ajv } from 'ajv';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import {
  compileGrammar,
  GrammarError,
  schemaGrammar,
} from '../packages/engine/dist/grammar/index.js';
import { sampleBytes } from '../packages/engine/dist/grammar/testing/sample.js';
import { TableWalk } from '../packages/engine/dist/grammar/testing/table-walk.js';
import { readJsonValue } from '../packages/engine/dist/text/json.js';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    every: { type: 'string', default: '1' },
    from: { type: 'string', default: '0' },
    only: { type: 'string' },
    samples: { type: 'string', default: '4' },
    out: { type: 'string' },
    verbose: { type: 'boolean', default: false },
  },
});
const [folder] = positionals;
if (folder === undefined) throw new Error('which folder? <jsonschemabench>/maskbench/data');

const FORMATS = [
  ...['date', 'time', 'date-time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uri'],
  ...['uri-reference', 'uuid', 'json-pointer', 'relative-json-pointer'],
];
const say = (text) => process.stderr.write(`${text}\n`);
const utf8 = new TextEncoder();
/** Orders of properties that are tried for an instance. */
const MAX_TRIES = 20_000;

/** xorshift32: the same samples in every run. */
function randomFrom(seed) {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Draft 4 as draft 7 writes it, without names: what ajv reads. */
function forAjv(schema, key) {
  if (Array.isArray(schema)) return schema.map((item) => forAjv(item));
  if (schema === null || typeof schema !== 'object') return schema;
  const copy = {};
  for (const [name, value] of Object.entries(schema)) {
    const isName = ['id', '$schema', '$id'].includes(name) && typeof value === 'string';
    if (isName && key !== 'properties') continue;
    copy[name] = ['enum', 'const'].includes(name) ? value : forAjv(value, name);
  }
  for (const [bound, exclusive] of [
    ['minimum', 'exclusiveMinimum'],
    ['maximum', 'exclusiveMaximum'],
  ]) {
    if (typeof copy[exclusive] !== 'boolean') continue;
    if (copy[exclusive]) {
      copy[exclusive] = copy[bound];
      delete copy[bound];
    } else {
      delete copy[exclusive];
    }
  }
  return copy;
}

function validatorOf(schema) {
  const Class = String(schema?.$schema).includes('2020-12') ? Ajv2020 : Ajv;
  const ajv = new Class({
    strict: false,
    logger: false,
    validateSchema: false,
    multipleOfPrecision: 6,
    meta: false,
  });
  formats.default(ajv, FORMATS);
  return ajv.compile(forAjv(schema));
}

/** The names of every `properties` in a schema. */
function namesTogether(schema, found = []) {
  if (schema === null || typeof schema !== 'object') return found;
  const { properties } = schema;
  if (properties !== null && typeof properties === 'object') found.push(Object.keys(properties));
  for (const inner of Object.values(schema)) namesTogether(inner, found);
  return found;
}

/** Whether the tables admit the value, with the properties of its objects in some order. */
function admitsInSomeOrder(start, value, schema) {
  let tries = 0;
  const text = JSON.stringify(schema);
  const together = namesTogether(schema);
  // Names are tried in the order of the `properties` that has most of them, then in the order in
  // which the schema has them first, the others behind: to try all orders takes too long.
  const ordered = (entries) => {
    const sharedWith = (names) => entries.filter(([name]) => names.includes(name)).length;
    const most = together.reduce((a, b) => (sharedWith(b) > sharedWith(a) ? b : a), []);
    const placeOf = (name) => most.indexOf(name) >>> 0;
    const rankOf = (name) => text.indexOf(`${JSON.stringify(name)}:`) >>> 0;
    return entries.sort(([a], [b]) => placeOf(a) - placeOf(b) || rankOf(a) - rankOf(b));
  };
  const after = (walk, text) => walk.afterAll(utf8.encode(text));
  const places = (walk, part) => {
    if (walk === undefined || tries > MAX_TRIES) return undefined;
    tries += 1;
    if (Array.isArray(part)) {
      let at = after(walk, '[');
      part.forEach((item, index) => {
        at = at && places(index === 0 ? at : after(at, ','), item);
      });
      return at && after(at, ']');
    }
    if (part === null || typeof part !== 'object') return after(walk, JSON.stringify(part));
    const choose = (at, left) => {
      if (at === undefined || tries > MAX_TRIES) return undefined;
      if (left.length === 0) return after(at, '}');
      for (const [index, [name, inner]] of left.entries()) {
        tries += 1;
        const comma = left.length === Object.keys(part).length ? '' : ',';
        const named = after(at, `${comma}${JSON.stringify(name)}:`);
        const whole = choose(places(named, inner), left.toSpliced(index, 1));
        if (whole !== undefined) return whole;
      }
      return undefined;
    };
    return choose(after(walk, '{'), ordered(Object.entries(part)));
  };
  return places(start, value)?.canEnd ?? false;
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const of = (share) => Number(percentile(sorted, share).toPrecision(4));
  return { p50: of(0.5), p90: of(0.9), p99: of(0.99), p999: of(0.999), max: of(1) };
}

const files = readdirSync(folder)
  .filter((file) => options.only === undefined || file.includes(options.only))
  .filter((_, at) => at % Number(options.every) === Number(options.from));
const splits = new Map();
const failures = { refused: {}, validation: {}, invalidation: {}, unsound: {}, crash: {} };
/** In milliseconds of the processor: the machine may be shared. */
const times = { expression: [], compile: [], total: [] };
const cpuNow = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};
const words = [];
let samples = 0;
let unjudged = 0;
let wellOrdered = 0;
let otherOrder = 0;
let done = 0;

for (const file of files) {
  const name = basename(file, '.json');
  const text = readFileSync(join(folder, file), 'utf8');
  const { schema, tests } = JSON.parse(text);
  const split = name.includes('---') ? name.split('---')[0] : name.split('_')[0];
  const counts = splits.get(split) ?? { schemas: 0, compiled: 0, passing: 0 };
  splits.set(split, counts);
  counts.schemas += 1;
  done += 1;
  if (options.verbose && done % 500 === 0) say(`${done} of ${files.length}`);
  const exact = readJsonValue(text).get('schema');

  let grammar;
  let tables;
  const started = cpuNow();
  let translated = started;
  try {
    grammar = schemaGrammar(exact);
    translated = cpuNow();
    tables = compileGrammar(grammar);
  } catch (error) {
    const kind = error instanceof GrammarError ? 'refused' : 'crash';
    const code = error instanceof GrammarError ? `${error.code}: ${error.message}` : error.stack;
    failures[kind][name] = String(code).slice(0, 240);
  }
  const ended = cpuNow();
  times.total.push(ended - started);
  if (options.verbose && ended - started > 1000) say(`${name}: ${Math.round(ended - started)} ms`);
  if (tables === undefined) continue;
  counts.compiled += 1;
  times.expression.push(translated - started);
  times.compile.push(ended - translated);
  words.push(tables.length);

  const start = TableWalk.start(tables);
  let isPassing = true;
  for (const { data, valid } of tests) {
    const written = JSON.stringify(data);
    const asWritten = start.afterAll(utf8.encode(written))?.canEnd ?? false;
    if (valid && asWritten) wellOrdered += 1;
    const isAdmitted = asWritten || admitsInSomeOrder(start, data, schema);
    if (valid && !asWritten && isAdmitted) otherOrder += 1;
    if (isAdmitted === valid) continue;
    isPassing = false;
    failures[valid ? 'validation' : 'invalidation'][name] = written.slice(0, 240);
  }
  if (isPassing) counts.passing += 1;

  let validate;
  try {
    validate = validatorOf(schema);
  } catch {
    unjudged += 1;
    continue;
  }
  const random = randomFrom(done * 7919);
  for (let sample = 0; sample < Number(options.samples); sample++) {
    const bytes = sampleBytes(grammar, { random });
    const sampled = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    samples += 1;
    if (!(start.afterAll(bytes)?.canEnd ?? false)) {
      failures.validation[name] = `sample ${sampled.slice(0, 240)}`;
    }
    let isValid = false;
    try {
      isValid = validate(JSON.parse(sampled));
    } catch {
      isValid = false;
    }
    if (isValid) continue;
    const [why] = validate.errors ?? [];
    failures.unsound[name] = `${why?.instancePath} ${why?.message}: ${sampled.slice(0, 240)}`;
  }
}

const countOf = (kind) => Object.keys(failures[kind]).length;
const byCode = {};
for (const why of Object.values(failures.refused)) {
  const [code] = why.split(':');
  byCode[code] = (byCode[code] ?? 0) + 1;
}
const total = (key) => [...splits.values()].reduce((sum, counts) => sum + counts[key], 0);
const report = {
  machine: { cpu: cpus()[0]?.model, cores: cpus().length, node: process.version },
  command: `node scripts/json-schema-bench.mjs ${process.argv.slice(3).join(' ')}`.trim(),
  schemas: total('schemas'),
  compiled: total('compiled'),
  passing: total('passing'),
  refused: byCode,
  crashed: countOf('crash'),
  validationErrors: countOf('validation'),
  invalidationErrors: countOf('invalidation'),
  unsound: countOf('unsound'),
  samples,
  schemasThatAjvCannotCompile: unjudged,
  validInstancesAdmitted: { asWritten: wellOrdered, inAnotherOrder: otherOrder },
  cpuMilliseconds: {
    all: summary(times.total),
    expression: summary(times.expression),
    compile: summary(times.compile),
  },
  tableBytes: summary(words.map((count) => count * 4)),
  splits: Object.fromEntries(splits),
  failures,
};
if (options.out !== undefined) writeFileSync(options.out, `${JSON.stringify(report, null, 1)}\n`);
process.stdout.write(`${JSON.stringify({ ...report, failures: undefined }, null, 1)}\n`);
