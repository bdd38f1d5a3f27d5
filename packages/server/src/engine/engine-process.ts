import { HOST_CLOCK } from '../host-clock.ts';
import { buildEngine } from './build.ts';
import { hostEngine } from './engine-host.ts';
import type { EngineThreadData, FromEngine, ToEngine } from './messages.ts';

// An engine in a process of its own. The server in front of it says when it ends: signals that
// reach both, as a terminal's, are the server's.

const ignored = () => {};
process.on('SIGINT', ignored);
process.on('SIGTERM', ignored);
process.on('disconnect', () => process.exit(0));
process.once('message', ({ config }: EngineThreadData) => {
  let unsent = 0;
  let isClosing = false;
  // What was sent leaves before the channel is closed.
  const closeWhenSent = () => {
    if (isClosing && unsent === 0 && process.connected) process.disconnect();
  };
  const postMessage = (message: FromEngine) => {
    unsent += 1;
    process.send!(message, undefined, undefined, () => {
      unsent -= 1;
      closeWhenSent();
    });
  };
  const on = (event: 'message', listener: (message: ToEngine) => void) =>
    process.on(event, listener);
  const close = () => {
    isClosing = true;
    closeWhenSent();
  };
  void hostEngine({ postMessage, on, close }, config, buildEngine, HOST_CLOCK.every);
});
