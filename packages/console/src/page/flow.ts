import { createMemo, mapArray } from 'solid-js';
import type { JSX } from 'solid-js/h/jsx-runtime';

type Element = JSX.Element;

/** A row for each item, kept for as long as the item is. */
export function each<T>(items: () => readonly T[], row: (item: T) => Element): () => Element {
  return mapArray(items, (item) => made(row(item))) as () => Element;
}

/** One thing where a condition holds, and another, or nothing, where it does not. */
export function when(
  condition: () => boolean,
  then: () => Element,
  otherwise?: () => Element,
): () => Element {
  const holds = createMemo(condition);
  return createMemo(() => made(holds() ? then() : otherwise?.()));
}

/** What JSX writes here is made when it is called. */
function made(element: Element): Element {
  return typeof element === 'function' ? made((element as () => Element)()) : element;
}
