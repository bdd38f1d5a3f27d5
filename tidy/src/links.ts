import {
  isCallExpression,
  isExportDeclaration,
  isImportDeclaration,
  isImportTypeNode,
  isLiteralTypeNode,
  isNamedExports,
  isNamedImports,
  isStringLiteral,
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
    const clause = node.exportClause;
    const named = clause !== undefined && isNamedExports(clause);
    const names = named
      ? clause.elements.map(({ propertyName, name }) => (propertyName ?? name).text)
      : ('*' as const);
    return link(node.moduleSpecifier, node.isTypeOnly ? 'type' : 'value', names);
  }
  if (isImportTypeNode(node) && isLiteralTypeNode(node.argument)) {
    return link(node.argument.literal, 'type', '*');
  }
  if (isCallExpression(node) && node.expression.kind === SyntaxKind.ImportKeyword) {
    return link(node.arguments[0], 'lazy', '*');
  }
  // A worker's entry is named as a compiled file: new URL('./x-worker.js', import.meta.url).
  if (isStringLiteral(node) && /^\.{1,2}\/.*\.js$/.test(node.text)) return link(node, 'file', []);
  return undefined;
}

function link(
  specifier: Node | undefined,
  kind: Link['kind'],
  names: Link['names'],
): Omit<Link, 'line'> | undefined {
  if (specifier === undefined || !isStringLiteral(specifier)) return undefined;
  return { target: specifier.text, kind, names };
}
