import type { EngineTask } from '@bridgekeeper/engine';
import { isEmbedder, type ModelFiles } from '@bridgekeeper/engine/models';
import { UsageError } from '../../settings/resolve.ts';
import type { Settings } from '../../settings/table.ts';
import type { Decision } from './decision.ts';

type Wishes = Pick<Settings, 'task' | 'runner' | 'convert'>;

/**
 * What the model is to do: `--task`, or vLLM's `--runner` and `--convert`, or what its folder says.
 * Throws UsageError where these contradict each other, and ModelError.
 */
export async function chooseTask(wishes: Wishes, files: ModelFiles): Promise<Decision<EngineTask>> {
  const { task, runner, convert } = wishes;
  const converted = {
    auto: undefined,
    none: undefined,
    embed: 'embed',
    classify: 'score',
  } as const;
  const wanted = [
    { flag: `--task ${task}`, value: task === 'auto' ? undefined : task },
    { flag: `--convert ${convert}`, value: converted[convert] },
    { flag: '--runner generate', value: runner === 'generate' ? 'generate' : undefined },
  ] as const;
  const [first, ...others] = wanted.filter(({ value }) => value !== undefined);
  const other = others.find(({ value }) => value !== first!.value);
  if (other !== undefined) {
    throw new UsageError('bad-value', `${first!.flag} and ${other.flag} contradict each other`);
  }
  if (first !== undefined) return { value: first.value!, reason: first.flag };
  if (await isEmbedder(files)) return { value: 'embed', reason: 'its modules.json pools texts' };
  if (runner === 'pooling') return { value: 'embed', reason: '--runner pooling' };
  return { value: 'generate', reason: 'nothing says that it embeds or scores' };
}
