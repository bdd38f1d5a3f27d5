import { expect, it } from 'vitest';
import { GATEWAY_CALLS } from '../api/routes.ts';
import { ControlError } from '../errors.ts';
import { Frame } from './frame.ts';

function frameThat(refuses: ControlError): Frame {
  const frame = new Frame({
    store: {} as never,
    term: () => {
      throw refuses;
    },
    callerOf: () => {
      throw refuses;
    },
    bodyBytesMax: 1000,
    version: '0.0.0',
    onAnswer: () => undefined,
    onCrash: (error) => {
      throw error;
    },
  });
  frame.add(GATEWAY_CALLS.routing, { read: () => ({}) as never });
  return frame;
}

it('ends the connection where another leads, so that the next call may reach it', async () => {
  const follower = frameThat(new ControlError('not-leader', 'another leads'));
  const answer = await follower.app.request(GATEWAY_CALLS.routing.path);
  expect(answer.status).toBe(503);
  expect(answer.headers.get('connection')).toBe('close');
});

it('keeps the connection where it is this control that refuses', async () => {
  const leader = frameThat(new ControlError('store-unavailable', 'ask again'));
  const answer = await leader.app.request(GATEWAY_CALLS.routing.path);
  expect(answer.status).toBe(503);
  expect(answer.headers.get('connection')).toBeNull();
});
