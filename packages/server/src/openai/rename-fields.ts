import { ApiError, toApiError } from '../http/errors.ts';

/**
 * What `prepare` throws, in the words of another API than the one it is written for: `names` says
 * what a field of a chat request is called there.
 */
export async function inFieldsOf<T>(
  names: Readonly<Record<string, string>>,
  prepare: () => Promise<T>,
): Promise<T> {
  try {
    return await prepare();
  } catch (thrown) {
    const error = toApiError(thrown);
    const field = error.param?.split('.')[0];
    const name = field === undefined ? undefined : names[field];
    if (name === undefined) throw thrown;
    const { code, message } = error;
    const ours = message.startsWith(error.param!)
      ? name + message.slice(error.param!.length)
      : message;
    throw new ApiError(code, ours, name, { cause: thrown });
  }
}
