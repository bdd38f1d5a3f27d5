import {
  flag,
  integer,
  kindOf,
  number,
  onOff,
  optionalArgument,
  text,
  UsageError,
} from '@bridgekeeper/server';
import { converse, gather, show } from '../chat/chat.ts';
import type { ChatTarget, Message } from '../chat/client.ts';
import type { Dialogue } from '../io.ts';
import type { CliCommand } from './command.ts';

const FLAGS = {
  question: optionalArgument(text('text'), 'ask this alone; without it, talk'),
  url: flag(
    kindOf('url', 'an address such as http://127.0.0.1:8000', (value) =>
      /^https?:\/\/[^\s/]+/.test(value) && URL.canParse(value) ? value : undefined,
    ),
    'http://127.0.0.1:8000',
    'where the server is',
  ),
  model: flag(text('name'), undefined, 'its name in the API; default: the server’s first'),
  system: flag(text('text'), undefined, 'said to the model before everything else'),
  maxTokens: flag(integer(1, 2 ** 31), undefined, 'most tokens of an answer'),
  temperature: flag(number(0, 100), undefined, '0 is greedy; default: the server decides'),
  json: flag(onOff(), false, 'the answer to one question as one JSON document'),
};

const SILENT: Dialogue = { write: () => {}, async *lines() {} };

export const CHAT: CliCommand<typeof FLAGS> = {
  name: 'chat',
  summary: 'talk to a running server in the terminal',
  flags: FLAGS,
  notes: 'Keys come from BRIDGEKEEPER_API_KEY. /exit ends, /new forgets what was said.',
  run: async ({ values }, io) => {
    const { question, url, model, system, maxTokens, temperature, json } = values;
    if (json && question === undefined) {
      throw new UsageError(
        'bad-combination',
        '--json: needs a question, as in: chat "Hello" --json',
      );
    }
    // The variable may hold several, for the server.
    const apiKey = io.environment.BRIDGEKEEPER_API_KEY?.split(',')[0]?.trim() || undefined;
    const target: ChatTarget = { url, model, apiKey, maxTokens, temperature };
    const before: Message[] = system === undefined ? [] : [{ role: 'system', content: system }];
    const { write, lines } = io.dialogue ?? SILENT;
    if (question === undefined) {
      await converse(target, before, { write, lines, err: io.err });
      return 0;
    }
    const messages: Message[] = [...before, { role: 'user', content: question }];
    if (json) {
      const { text: answer, end } = await gather(target, messages);
      io.out(JSON.stringify({ answer, ...end }));
    } else {
      await show(target, messages, { write });
    }
    return 0;
  },
};
