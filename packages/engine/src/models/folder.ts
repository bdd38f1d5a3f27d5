import { describeModel } from './describe.ts';
import { ModelError } from './errors.ts';
import { readJson } from './files.ts';
import type { ModelSpec } from './spec.ts';

/**
 * Reads config.json and generation_config.json of a Hugging Face model folder. Throws ModelError.
 */
export async function readModelSpec(folder: string): Promise<ModelSpec> {
  const config = await readJson(folder, 'config.json');
  if (config === undefined) {
    const expected = 'a model is a folder with config.json, tokenizer.json and *.safetensors files';
    throw new ModelError('missing-file', `there is no config.json in ${folder}: ${expected}`);
  }
  return describeModel(config, await readJson(folder, 'generation_config.json'));
}
