import hyperscript from 'solid-js/h';

/** What the library says of its arguments leaves out what JSX gives it. */
type Hyperscript = (type: unknown, props: object, ...children: readonly unknown[]) => unknown;

export const Fragment = (props: { readonly children?: unknown }) => props.children;
export default hyperscript as unknown as Hyperscript;
