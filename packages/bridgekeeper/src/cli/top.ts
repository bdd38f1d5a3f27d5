import { flag, integer, kindOf, number, onOff, text } from '@bridgekeeper/server/settings';
import type { CliCommand } from './command.ts';
import { stopSignal } from './stop-signal.ts';

const FLAGS = {
  url: flag(
    kindOf('url', 'an address such as http://127.0.0.1:8000', (value) =>
      /^https?:\/\/[^\s/]+/.test(value) && URL.canParse(value) ? value : undefined,
    ),
    'http://127.0.0.1:8000',
    'where the server is',
  ),
  once: flag(onOff(), undefined, 'look once; default: where standard output is no terminal'),
  interval: flag(number(0.1, 3600), 1, 'seconds from one look to the next'),
  width: flag(integer(40, 500), 100, 'characters of a line'),
  record: flag(text('file'), undefined, 'write what happens into a file that the console opens'),
  seconds: flag(number(1, 14_400), 10, 'of --record: for so long'),
  json: flag(onOff(), false, 'each look as one JSON document a line'),
};

export const TOP: CliCommand<typeof FLAGS> = {
  name: 'top',
  summary: 'lanes, ledger and policy of a running server, in the terminal',
  flags: FLAGS,
  notes: 'Needs an operator key where the server has keys: BRIDGEKEEPER_API_KEY.',
  run: async ({ values }, io) => {
    const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
    const { look, record, watch } = await import('../top/watch.ts');
    const { url, once = !io.isTerminal, interval, width, json, record: file, seconds } = values;
    const apiKey = io.environment.BRIDGEKEEPER_API_KEY?.split(',')[0]?.trim() || undefined;
    const target = { url, apiKey };
    if (file !== undefined) {
      const stop = stopSignal(io);
      const recording = await record(target, HOST_CLOCK, seconds, stop, (done, moments) =>
        io.redraw?.(`${done.toFixed(0)} of ${seconds} s, ${moments} moments`),
      );
      io.redraw?.('');
      io.writeFile(file, recording);
      if (json) io.out(JSON.stringify({ file, bytes: recording.length }));
      else io.out(`${file}: open it in the console`);
      return 0;
    }
    if (once) {
      const { screen } = await import('../top/screen.ts');
      const shown = await look(target);
      io.out(json ? JSON.stringify(shown) : screen(url, shown, width).join('\n'));
      return 0;
    }
    const write = io.dialogue?.write ?? io.out;
    await watch({
      target,
      clock: HOST_CLOCK,
      intervalSeconds: interval,
      width,
      isJson: json,
      stop: stopSignal(io),
      write,
    });
    return 0;
  },
};
