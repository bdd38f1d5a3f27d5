import {
  isAwaitExpression,
  isCallExpression,
  isExportDeclaration,
  isIdentifier,
  isImportDeclaration,
  isImportTypeNode,
  isLiteralTypeNode,
  isNamedExports,
  isNamedImports,
  isObjectBindingPattern,
  isParenthesizedExpression,
  isPropertyAccessExpression,
  isStringLiteral,
  isVariableDeclaration,
  type Node,
  type SourceFile,
  SyntaxKind,
} from 'typescript/unstable/ast';

/** One mention of another module. */
export interface Link {
  /** The specifier as written. */
  readonly target: string;
  /**
   * How the other module is needed: its code before this one runs (`value`), only its types, its
   * code later (`lazy`, a dynamic import), or as a file to start (`file`, a worker's address).
   */
  readonly kind: 'value' | 'type' | 'lazy' | 'file';
  /** The other module's exported names that are used, or `*` for all of them. */
  readonly names: readonly string[] | '*';
  /**
   * Of a re-export: the names it passes on, in the order of `names`, or `*` for all as they are
   * (`export * from`). Passing a name on is not yet a use of it.
   */
  readonly passedOn?: readonly string[] | '*';
  readonly line: number;
}

/** Every link of a parsed file, in the order of the text. */
export function linksOf(ast: SourceFile): Link[] {
  const links: Link[] = [];
  const visit = (node: Node): void => {
    const found = linkAt(node);
    if (found !== undefined) {
      const line = ast.getLineAndCharacterOfPosition(node.getStart(ast)).line + 1;
      links.push({ ...found, line });
      return;
    }
    node.forEachChild((child) => visit(child));
  };
  visit(ast);
  return links;
}

function linkAt(node: Node): Omit<Link, 'line'> | undefined {
  if (isImportDeclaration(node)) {
    const clause = node.importClause;
    const kind = clause?.phaseModifier === SyntaxKind.TypeKeyword ? 'type' : 'value';
    const bindings = clause?.namedBindings;
    const names: string[] = clause?.name === undefined ? [] : ['default'];
    if (bindings !== undefined) {
      if (!isNamedImports(bindings)) return link(node.moduleSpecifier, kind, '*');
      names.push(...bindings.elements.map(({ propertyName, name }) => (propertyName ?? name).text));
    }
    return link(node.moduleSpecifier, kind, names);
  }
  if (isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
    const kind = node.isTypeOnly ? 'type' : 'value';
    const clause = node.exportClause;
    if (clause === undefined) return link(node.moduleSpecifier, kind, '*', '*');
    if (!isNamedExports(clause)) return link(node.moduleSpecifier, kind, '*', [clause.name.text]);
    const names = clause.elements.map(({ propertyName, name }) => (propertyName ?? name).text);
    const passedOn = clause.elements.map(({ name }) => name.text);
    return link(node.moduleSpecifier, kind, names, passedOn);
  }
  if (isImportTypeNode(node) && isLiteralTypeNode(node.argument)) {
    return link(node.argument.literal, 'type', '*');
  }
  if (isCallExpression(node) && node.expression.kind === SyntaxKind.ImportKeyword) {
    return link(node.arguments[0], 'lazy', namesTakenFrom(node));
  }
  // A worker's entry is named as a compiled file: new URL('./x-worker.js', import.meta.url).
  if (isStringLiteral(node) && /^\.{1,2}\/.*\.js$/.test(node.text)) return link(node, 'file', []);
  return undefined;
}

/** What is taken from a dynamic import: `const { a } = await import()`, `(await import()).a`. */
function namesTakenFrom(call: Node): Link['names'] {
  if (!isAwaitExpression(call.parent)) return '*';
  const awaited = call.parent.parent;
  if (isVariableDeclaration(awaited) && isObjectBindingPattern(awaited.name)) {
    const taken = awaited.name.elements.map(({ propertyName, name }) => propertyName ?? name);
    return taken.every((name) => name !== undefined && isIdentifier(name))
      ? taken.map((name) => (name as Node & { readonly text: string }).text)
      : '*';
  }
  const access = isParenthesizedExpression(awaited) ? awaited.parent : undefined;
  return access !== undefined && isPropertyAccessExpression(access) ? [access.name.text] : '*';
}

function link(
  specifier: Node | undefined,
  kind: Link['kind'],
  names: Link['names'],
  passedOn?: Link['passedOn'],
): Omit<Link, 'line'> | undefined {
  if (specifier === undefined || !isStringLiteral(specifier)) return undefined;
  const found = { target: specifier.text, kind, names };
  return passedOn === undefined ? found : { ...found, passedOn };
}
