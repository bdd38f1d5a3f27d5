import { ModelError } from './errors.ts';
import { type ModelFiles, readJson } from './files.ts';

/** Folders that sentence-transformers wrote list what a text passes through. */
const MODULES = 'modules.json';

/**
 * Whether a model's folder says that it embeds texts. Throws ModelError `unsupported` where that
 * is by another way than from the last token, and `malformed`.
 */
export async function isEmbedder(files: ModelFiles): Promise<boolean> {
  const modules = await readJson(files, MODULES);
  if (modules === undefined) return false;
  if (!Array.isArray(modules)) throw new ModelError('malformed', `${MODULES} must be a list`);
  const typeOf = (module: unknown) => String((module as { type?: unknown } | null)?.type);
  const pooling = modules.find((module) => typeOf(module).endsWith('.Pooling'));
  if (pooling === undefined) return false;
  const path = (pooling as { path?: unknown }).path;
  if (typeof path !== 'string') {
    throw new ModelError('malformed', `${MODULES} must say where its Pooling is`);
  }
  const name = `${path}/config.json`;
  // Seals do not cover it: a decoder is pooled from its last token.
  const config = typeof files === 'string' ? await readJson(files, name) : undefined;
  if (config !== undefined) requireLastToken(config, name);
  return true;
}

/** A mode by its name, or one of several switches. */
function requireLastToken(config: unknown, name: string): void {
  const { pooling_mode: mode, ...switches } = config as Readonly<Record<string, unknown>>;
  const on = Object.keys(switches).filter(
    (key) => key.startsWith('pooling_mode_') && switches[key] === true,
  );
  const modes = typeof mode === 'string' ? [mode] : on.map((key) => key.slice(13));
  if (modes.length === 1 && modes[0] === 'lasttoken') return;
  const found = modes.join(', ') || 'none';
  throw new ModelError('unsupported', `${name}: pooling is ${found}; supported: lasttoken`);
}
