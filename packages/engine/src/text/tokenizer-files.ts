import { ModelError } from '../models/errors.ts';
import {
  folderOf,
  type ModelFiles,
  namesWithin,
  readJson,
  readSmall,
  readText,
} from '../models/files.ts';
import { TEMPLATE_FOLDER } from '../seal/names.ts';

/** What a model's files say about text. */
export interface TokenizerFiles {
  /** tokenizer.json */
  readonly tokenizer: Readonly<Record<string, unknown>>;
  /** tokenizer_config.json; empty where there is none. */
  readonly config: Readonly<Record<string, unknown>>;
  /** special_tokens_map.json, where there is one. */
  readonly specialTokensMap?: Readonly<Record<string, unknown>>;
  /** Chat templates by name. */
  readonly templates: ReadonlyMap<string, string>;
}

const TEMPLATE_SUFFIX = '.jinja';

function asObject(value: unknown, name: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ModelError('malformed', `${name} must be a JSON object`);
  }
  return value as Record<string, unknown>;
}

/** The templates of a JSON file: one, or a list of named ones. */
function configTemplates(value: unknown, file: string): Map<string, string> {
  if (value === undefined || value === null) return new Map();
  if (typeof value === 'string') return new Map([['default', value]]);
  const templates = new Map<string, string>();
  for (const entry of Array.isArray(value) ? value : [undefined]) {
    if (typeof entry?.name !== 'string' || typeof entry.template !== 'string') {
      const expected = 'a string or a list of {name, template}';
      const message = `${file}: "chat_template" must be ${expected}`;
      throw new ModelError('malformed', message);
    }
    templates.set(entry.name, entry.template);
  }
  return templates;
}

async function templateFiles(files: ModelFiles): Promise<string[]> {
  const names = await namesWithin(files, TEMPLATE_FOLDER);
  return names.filter((name) => name.endsWith(TEMPLATE_SUFFIX)).sort();
}

/** Files beside the named templates. */
const NAMES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.json',
  'chat_template.jinja',
];

/**
 * Those of a model's files that say something about text, with their contents: what is opened later
 * is what was there now. Plain data. Throws ModelError.
 */
export async function readTextFiles(files: ModelFiles): Promise<ModelFiles> {
  const templates = (await templateFiles(files)).map((name) => `${TEMPLATE_FOLDER}/${name}`);
  const contents = new Map<string, Uint8Array>();
  for (const name of [...NAMES, ...templates]) {
    const bytes =
      typeof files === 'string' ? await readSmall(files, name) : files.contents.get(name);
    if (bytes !== undefined) contents.set(name, bytes);
  }
  return { folder: folderOf(files), contents };
}

/** Files win over tokenizer_config.json, as in transformers; among them the one in Jinja. */
async function readTemplates(files: ModelFiles, inConfig: unknown): Promise<Map<string, string>> {
  const templates = configTemplates(inConfig, 'tokenizer_config.json');
  const json = 'chat_template.json';
  const ofProcessor = asObject((await readJson(files, json)) ?? {}, json).chat_template;
  for (const [name, source] of configTemplates(ofProcessor, json)) templates.set(name, source);
  const main = await readText(files, 'chat_template.jinja');
  if (main !== undefined) templates.set('default', main);
  for (const name of await templateFiles(files)) {
    const source = await readText(files, `${TEMPLATE_FOLDER}/${name}`);
    if (source !== undefined) templates.set(name.slice(0, -TEMPLATE_SUFFIX.length), source);
  }
  return templates;
}

/**
 * Reads tokenizer.json, tokenizer_config.json and the chat templates of a model. Throws
 * ModelError.
 */
export async function readTokenizerFiles(files: ModelFiles): Promise<TokenizerFiles> {
  const tokenizer = await readJson(files, 'tokenizer.json');
  if (tokenizer === undefined) {
    const hint = 'tokenizer.model alone is not read: save the tokenizer with transformers';
    throw new ModelError(
      'missing-file',
      `there is no tokenizer.json in ${folderOf(files)}; ${hint}`,
    );
  }
  const name = 'tokenizer_config.json';
  const config = asObject((await readJson(files, name)) ?? {}, name);
  const mapName = 'special_tokens_map.json';
  return {
    specialTokensMap: asObject((await readJson(files, mapName)) ?? {}, mapName),
    tokenizer: asObject(tokenizer, 'tokenizer.json'),
    config,
    templates: await readTemplates(files, config.chat_template),
  };
}
