import { describe, expect, test } from 'vitest';
import { ChatTemplate } from './chat-template.ts';
import { Dict } from './jinja/values.ts';
import { strftime } from './template-globals.ts';

function template(source: string, now?: () => Date): ChatTemplate {
  const sources = new Map([['default', source]]);
  return new ChatTemplate({ sources, specialTokens: { bos_token: '<s>' }, now });
}

const chat = {
  messages: [new Dict(Object.entries({ role: 'user', content: 'a secret' }))],
  addGenerationPrompt: true,
};

const failure = (code: string, words: string) =>
  expect.objectContaining({
    name: 'TextError',
    code,
    message: expect.stringContaining(words) as string,
  });

describe('rendering', () => {
  test('templates see messages, special tokens, tools and further variables', () => {
    const source =
      '{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}' +
      '{% if tools is not none %}{{ tools | tojson }}{% endif %}' +
      '{% if enable_thinking is defined and not enable_thinking %}quick{% endif %}' +
      '{% if add_generation_prompt %}>{% endif %}';
    const rendered = template(source);
    expect(rendered.render(chat)).toBe('<s>[user]a secret>');
    const tools = [new Dict([['name', 'f']])];
    const variables = new Dict([['enable_thinking', false]]);
    expect(rendered.render({ ...chat, tools, variables, addGenerationPrompt: false })).toBe(
      '<s>[user]a secret[{"name": "f"}]quick',
    );
  });

  test('blocks are trimmed as transformers configures Jinja', () => {
    expect(
      template('{% if true %}\n  {% if true %}\nx\n  {% endif %}\n{% endif %}\n').render(chat),
    ).toBe('x\n');
  });

  test('a request may bring its own template', () => {
    expect(template('a').render({ ...chat, template: '{{ messages | length }}' })).toBe('1');
  });

  test('range is what Python makes of it, within reason', () => {
    const source =
      '{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(5, 1, -2) %}{{ i }}{% endfor %}';
    expect(template(source).render(chat)).toBe('01253');
    expect(() => template('{% for i in range(1000000000) %}{% endfor %}').render(chat)).toThrow(
      failure('template-failed', 'range() is longer'),
    );
  });

  test('the date is the one given, and undefined otherwise', () => {
    const source = "{{ strftime_now('%d %b %Y') if strftime_now is defined else 'no date' }}";
    const now = () => new Date(Date.UTC(2026, 10, 2));
    expect(template(source, now).render(chat)).toBe('02 Nov 2026');
    expect(template(source).render(chat)).toBe('no date');
  });
});

describe('failures are told without the conversation', () => {
  test('a refusal gives its reason where the template spells it out', () => {
    const refuses = template("{{ raise_exception('Only one message is supported.') }}");
    expect(() => refuses.render(chat)).toThrow(
      failure('template-refused', 'Only one message is supported.'),
    );
  });

  test('a refusal built from the conversation is not repeated', () => {
    const leaks = template("{{ raise_exception('Cannot answer: ' + messages[0].content) }}");
    expect(() => leaks.render(chat)).toThrow(
      expect.objectContaining({
        code: 'template-refused',
        message: expect.not.stringContaining('secret') as string,
      }),
    );
  });

  test.each([
    ['{{ messages | nonsense }}', 'template-failed', 'nonsense'],
    ['{{ missing.field() }}', 'template-failed', "'missing' is undefined"],
    ['{% if %}', 'template-failed', 'does not parse'],
    ['{% for x in messages %}', 'template-failed', 'does not parse'],
  ])('%s', (source, code, words) => {
    expect(() => template(source).render(chat)).toThrow(failure(code, words));
  });

  test('absurd nesting ends in an error', () => {
    const deep = `{{ ${'('.repeat(100_000)}1${')'.repeat(100_000)} }}`;
    expect(() => template(deep).render(chat)).toThrow(failure('template-too-costly', 'too deeply'));
  });

  test('a variable cannot replace what every template relies on', () => {
    for (const name of ['messages', 'raise_exception', 'range', 'add_generation_prompt']) {
      const variables = new Dict([[name, 'x']]);
      expect(() => template('x').render({ ...chat, variables })).toThrow(
        failure('bad-variable', name),
      );
    }
  });

  test('a model without a template says what to do', () => {
    const none = new ChatTemplate({ sources: new Map(), specialTokens: {} });
    expect(none.isPresent).toBe(false);
    expect(() => none.render(chat)).toThrow(failure('no-template', '/v1/completions'));
    expect(() => template('x').render({ ...chat, templateName: 'rag' })).toThrow(
      failure('no-template', 'default'),
    );
  });
});

test('strftime formats as Python does in the C locale', () => {
  const date = new Date(Date.UTC(2024, 6, 6, 0, 5, 9));
  expect(strftime(date, '%A %a, %d %B (%b %m) %Y %y; %H:%M:%S %I %p 100%% %q')).toBe(
    'Saturday Sat, 06 July (Jul 07) 2024 24; 00:05:09 12 AM 100% %q',
  );
});
