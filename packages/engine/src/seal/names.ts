/** The manifest of a sealed model, in its folder. */
export const SEAL_NAME = 'bridgekeeper.seal.json';

/** Of a model folder: named chat templates. */
export const TEMPLATE_FOLDER = 'additional_chat_templates';

/** One component of a path: no separators, control characters or broken Unicode. */
const PLAIN = /^[^/\\\p{Cc}\p{Cs}]+$/u;
const SMALL = /^(?:(?:config|generation_config|model\.safetensors\.index|tokenizer.*)\.json)$/;
const SPECIAL_TOKENS = 'special_tokens_map.json';
const TEMPLATE = /^chat_template\.(?:jinja|json)$/;

/** Whether `name` is that of a file of weights. */
export function isWeightName(name: string): boolean {
  return PLAIN.test(name) && name.endsWith('.safetensors');
}

/** Whether `name` is that of a file that loading reads beside the weights. */
export function isSmallName(name: string): boolean {
  const [first, second, ...more] = name.split('/');
  if (more.length > 0) return false;
  if (second !== undefined) {
    return first === TEMPLATE_FOLDER && PLAIN.test(second) && second.endsWith('.jinja');
  }
  return PLAIN.test(name) && (SMALL.test(name) || TEMPLATE.test(name) || name === SPECIAL_TOKENS);
}
