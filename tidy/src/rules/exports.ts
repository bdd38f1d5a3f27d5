import {
  isExportDeclaration,
  isIdentifier,
  isInterfaceDeclaration,
  isNamedExports,
  isTypeAliasDeclaration,
  isVariableStatement,
  type Node,
  SyntaxKind,
} from 'typescript/unstable/ast';
import { lineAt, type Repository, type Source } from '../repository.ts';
import { resolve } from './modules.ts';

/** A name that a file exports. */
export interface Exported {
  readonly name: string;
  /** Declared in the file, or passed on from another. */
  readonly kind: 'type' | 'value' | 'passed on';
  readonly node: Node;
}

/** What a file exports itself or passes on, `export *` included. */
export function exportsOf(source: Source, repository: Repository): Exported[] {
  return source.ast.statements.flatMap((node): Exported[] => {
    if (isExportDeclaration(node)) {
      const clause = node.exportClause;
      const kind = node.moduleSpecifier === undefined ? 'value' : 'passed on';
      if (clause === undefined) return everythingFrom(node, source, repository);
      if (!isNamedExports(clause)) return [{ name: clause.name.text, kind, node }];
      return clause.elements.map((each) => ({ name: each.name.text, kind, node: each }));
    }
    const { modifiers } = node as Node & { readonly modifiers?: readonly Node[] };
    if (!modifiers?.some(({ kind }) => kind === SyntaxKind.ExportKeyword)) return [];
    const kind = isInterfaceDeclaration(node) || isTypeAliasDeclaration(node) ? 'type' : 'value';
    return declaredNames(node).map((name) => ({ name, kind, node }));
  });
}

function everythingFrom(node: Node, source: Source, repository: Repository): Exported[] {
  const line = lineAt(source.ast, node.getStart(source.ast));
  const link = source.links.find((each) => each.passedOn === '*' && each.line === line);
  const path = link === undefined ? undefined : resolve(link, source.path, repository);
  const origin = repository.sources.find((each) => each.path === path);
  if (origin === undefined) return [];
  return exportsOf(origin, repository).map(({ name }) => ({ name, kind: 'passed on', node }));
}

function declaredNames(node: Node): string[] {
  const named = isVariableStatement(node) ? node.declarationList.declarations : [node];
  return named.flatMap((each) => {
    const { name } = each as Node & { readonly name?: Node };
    return name !== undefined && isIdentifier(name) ? [name.text] : [];
  });
}
