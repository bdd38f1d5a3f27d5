import { expect, test } from 'vitest';
import { ApiError } from './errors.ts';
import { HostPolicy } from './host-policy.ts';

const passes = (policy: HostPolicy, host: string | undefined) => {
  try {
    policy.check(host);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: 'host_not_allowed', status: 403 });
    return false;
  }
};

test('names of this machine, addresses and allowed names pass, with any port', () => {
  const policy = new HostPolicy(['LLM.example']);
  for (const host of [
    undefined,
    'localhost',
    'localhost:8000',
    'LOCALHOST.',
    'app.localhost:1',
    '127.0.0.1:8000',
    '10.1.2.3',
    '[::1]:8000',
    'llm.example:443',
    'llm.example.',
  ]) {
    expect([host, passes(policy, host)]).toEqual([host, true]);
  }
});

test('every other name is refused, and so is what is none', () => {
  const policy = new HostPolicy(['llm.example']);
  for (const host of [
    '',
    'evil.example',
    'localhost.evil.example',
    'xlocalhost',
    'llm.example.evil.example',
    'x@localhost/evil.example',
    'localhost/x',
    '127.0.0.1.evil.example',
    '[::1].evil.example',
    'a b',
  ]) {
    expect([host, passes(policy, host)]).toEqual([host, false]);
  }
});

test('a star is every name', () => {
  expect(passes(new HostPolicy(['*']), 'evil.example')).toBe(true);
});
