import type { ConfigReader } from '../../models/config-reader.ts';
import { stepsOf, unsupportedStep } from './steps.ts';

/** The special tokens before and after a text. */
export interface Frame {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const NO_FRAME: Frame = { before: [], after: [] };

/** `{"SpecialToken": {"id": "<s>"}}` and `{"Sequence": {"id": "A"}}`, in order. */
function templateFrame(step: ConfigReader): Frame {
  const before: number[] = [];
  const after: number[] = [];
  let texts = 0;
  for (const item of stepsOf(step, 'single')) {
    const special = item.object('SpecialToken');
    if (special === undefined) {
      texts += 1;
      continue;
    }
    const name = special.text('id');
    const ids = step.object('special_tokens')?.object(name)?.get('ids');
    if (!Array.isArray(ids) || !ids.every((id) => Number.isInteger(id) && id >= 0)) {
      throw step.error('malformed', 'special_tokens', `has no token ids for ${name}`);
    }
    (texts === 0 ? before : after).push(...(ids as number[]));
  }
  if (texts !== 1) throw step.error('unsupported', 'single', 'must have the text once');
  return { before, after };
}

/** `cls` and `sep` are [token, id]. */
function bertFrame(step: ConfigReader): Frame {
  const [before, after] = ['cls', 'sep'].map((key) => {
    const pair = step.get(key);
    if (Array.isArray(pair) && Number.isInteger(pair[1])) return pair[1] as number;
    throw step.error('malformed', key, 'must be a token and its id');
  });
  return { before: [before!], after: [after!] };
}

/** What tokenizer.json's `post_processor` puts around one text. Throws ModelError. */
export function frameOf(step: ConfigReader | undefined): Frame {
  if (step === undefined) return NO_FRAME;
  switch (step.get('type')) {
    case 'ByteLevel':
      return NO_FRAME;
    case 'TemplateProcessing':
      return templateFrame(step);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return bertFrame(step);
    case 'Sequence':
      return stepsOf(step, 'processors')
        .map(frameOf)
        .reduce((inner, outer) => ({
          before: [...outer.before, ...inner.before],
          after: [...inner.after, ...outer.after],
        }));
    default:
      throw unsupportedStep(step);
  }
}

/** Whether a token is to stand at its end of a text. */
export interface EndToken {
  readonly wanted: boolean;
  readonly id: number;
}

/** What tokenizer_config.json says of the tokens around a text; undefined: nothing. */
export interface EndTokens {
  readonly bos: EndToken | undefined;
  readonly eos: EndToken | undefined;
}

/** `add_bos_token` and `add_eos_token` win over the post-processor, for these two tokens. */
export function adjustedFrame(frame: Frame, { bos, eos }: EndTokens): Frame {
  let { before, after } = frame;
  if (bos !== undefined) {
    before = before.filter((id) => id !== bos.id);
    if (bos.wanted) before = [bos.id, ...before];
  }
  if (eos !== undefined) {
    after = after.filter((id) => id !== eos.id);
    if (eos.wanted) after = [...after, eos.id];
  }
  return { before, after };
}
