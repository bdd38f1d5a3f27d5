import { type Environment, interpret } from './interpreter.ts';
import type { Body } from './nodes.ts';
import { parse } from './parser.ts';

/**
 * A template of Jinja2 3.1, in its ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks
 * and loop controls, without autoescape: what transformers renders chat templates with.
 */
export class Template {
  readonly #body: Body;

  /** Throws JinjaError. */
  constructor(source: string) {
    this.#body = parse(source);
  }

  /** Throws JinjaError, and what the environment's functions throw. */
  render(environment: Environment): string {
    return interpret(this.#body, environment);
  }
}
