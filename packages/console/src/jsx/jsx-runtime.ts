import h, { Fragment } from './hyperscript.ts';

export type { JSX } from 'solid-js/h/jsx-runtime';
export { Fragment };

type Props = Readonly<Record<string, unknown>> & { readonly children?: unknown };

/**
 * As `solid-js/h/jsx-runtime`, with children as arguments of their own: among the properties they
 * share one effect, and when one of them changes those of its neighbours are disposed of.
 */
export function jsx(type: unknown, { children, ...props }: Props): unknown {
  const list = Array.isArray(children) ? children : children === undefined ? [] : [children];
  return h(type, props, ...list);
}

export { jsx as jsxs };
