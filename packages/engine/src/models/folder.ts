import { describeModel } from './describe.ts';
import { ModelError } from './errors.ts';
import { folderOf, type ModelFiles, readJson } from './files.ts';
import type { ModelSpec } from './spec.ts';

/**
 * Reads config.json and generation_config.json of a Hugging Face model. Throws ModelError.
 */
export async function readModelSpec(files: ModelFiles): Promise<ModelSpec> {
  const config = await readJson(files, 'config.json');
  if (config === undefined) {
    const expected = 'a model is a folder with config.json, tokenizer.json and *.safetensors files';
    throw new ModelError(
      'missing-file',
      `there is no config.json in ${folderOf(files)}: ${expected}`,
    );
  }
  return describeModel(config, await readJson(files, 'generation_config.json'));
}
