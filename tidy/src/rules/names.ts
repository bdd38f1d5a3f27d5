import {
  isBindingElement,
  isCallExpression,
  isElementAccessExpression,
  isExportSpecifier,
  isFunctionDeclaration,
  isGetAccessorDeclaration,
  isIdentifier,
  isImportDeclaration,
  isMethodDeclaration,
  isMethodSignatureDeclaration,
  isNamedImports,
  isNewExpression,
  isParameterDeclaration,
  isPropertyAccessExpression,
  isPropertyAssignment,
  isPropertyDeclaration,
  isPropertySignatureDeclaration,
  isStringLiteral,
  isVariableDeclaration,
  type Node,
} from 'typescript/unstable/ast';
import type { Home, HomeName } from '../allowed.ts';
import { lineAt, type Rule, type Source } from '../repository.ts';
import { exportsOf } from './exports.ts';

/** Names are used only where they are at home. Members of any object count by their name alone. */
export function namesAtHome(names: readonly HomeName[], homes: readonly Home[]): Rule {
  return ({ sources }) =>
    sources.flatMap((source) => {
      const here = homes.filter(({ path }) => isAt(source.path, path));
      const isHome = (name: string): boolean => here.some((home) => home.names.includes(name));
      // Most files hold none of the words, and need no walk.
      const mentioned = names.filter(({ name }) => mayMention(source.text, name));
      const globals = mentioned.filter(({ member }) => !member);
      const members = mentioned.filter(({ member }) => member);
      const found: (Use & { readonly rule: HomeName })[] = [];
      for (const use of globals.length === 0 ? [] : globalsUsed(source)) {
        const rule = globals.find(
          ({ name }) => use.name === name || use.name.startsWith(`${name}.`),
        );
        if (rule !== undefined) found.push({ ...use, rule });
      }
      for (const use of members.length === 0 ? [] : identifiersUsed(source)) {
        const rule = members.find(({ name }) => use.name === name);
        if (rule !== undefined) found.push({ ...use, rule });
      }
      return found
        .filter(({ rule }) => !isHome(rule.name))
        .map(({ name, line, rule }) => {
          const message = `${name} is not at home here: ${rule.instead}`;
          return { path: source.path, line, message };
        });
    });
}

/** All words of a name are somewhere in a text; `new Date()` also stands for `Date()`. */
const mayMention = (text: string, name: string): boolean =>
  (name.match(/\w+/g) ?? []).every((word) => word === 'new' || text.includes(word));

const isAt = (path: string, home: string): boolean =>
  home.startsWith('*') ? path.endsWith(home.slice(1)) : path.startsWith(home);

/** `words` in lower case, each with the word of the field for it. */
export function plainWords(words: Readonly<Record<string, string>>): Rule {
  return (repository) =>
    repository.sources.flatMap((source) =>
      exportsOf(source, repository).flatMap(({ name, kind, node }) => {
        const said = wordsOf(name).flatMap((each) => [each, each.replace(/s$/, '')]);
        const word = said.find((each) => Object.hasOwn(words, each));
        if (word === undefined || kind === 'passed on') return [];
        const message = `${name}: for "${word}" say ${words[word]}`;
        return [
          { path: source.path, line: lineAt(source.ast, node.getStart(source.ast)), message },
        ];
      }),
    );
}

/** `openLaneFP8` is of open, lane, fp8; `MAX_LANES` of max and lanes. */
function wordsOf(name: string): string[] {
  const spaced = name.replace(/([a-z\d])([A-Z])/g, '$1 $2').replace(/_/g, ' ');
  return spaced.toLowerCase().split(' ');
}

/** Names from node:timers and its kin that mean the same as the globals. */
const timerModules = new Set(['node:timers', 'node:timers/promises']);

interface Use {
  readonly name: string;
  readonly line: number;
}

/**
 * Identifiers and dotted names (`Date.now`) that stand for a value, without `globalThis.`. `Date`
 * alone counts only as `new Date()` or `Date()`, which read the clock.
 */
function globalsUsed({ ast }: Source): Use[] {
  const uses: Use[] = [];
  const add = (name: string, node: Node): void => {
    uses.push({ name, line: lineAt(ast, node.getStart(ast)) });
  };
  const visit = (node: Node): void => {
    if (isImportDeclaration(node)) {
      const { moduleSpecifier, importClause } = node;
      const bindings = importClause?.namedBindings;
      if (!isStringLiteral(moduleSpecifier) || !timerModules.has(moduleSpecifier.text)) return;
      if (bindings === undefined || !isNamedImports(bindings)) return;
      for (const { propertyName, name } of bindings.elements)
        add((propertyName ?? name).text, node);
      return;
    }
    if (isPropertyAccessExpression(node)) {
      const name = dottedName(node)?.replace(/^globalThis\./, '');
      if (name !== undefined && name !== 'Date') add(name, node);
      else visit(node.expression);
      return;
    }
    const clock = (isNewExpression(node) && !node.arguments?.length) || isCallExpression(node);
    if (clock && isIdentifier(node.expression) && node.expression.text === 'Date') {
      add('new Date()', node);
    }
    if (isIdentifier(node) && node.text !== 'Date' && !isMemberName(node)) add(node.text, node);
    node.forEachChild(visit);
  };
  visit(ast);
  return uses;
}

/**
 * Names where they are called, read, imported or taken out of an object. To declare a member of a
 * name, or to pass an object that has one, is not to use it.
 */
function identifiersUsed({ ast }: Source): Use[] {
  const uses: Use[] = [];
  const visit = (node: Node): void => {
    const isUse =
      (isIdentifier(node) && !isDeclared(node)) || (isStringLiteral(node) && isKeyOfAccess(node));
    if (isUse) uses.push({ name: node.text, line: lineAt(ast, node.getStart(ast)) });
    node.forEachChild(visit);
  };
  visit(ast);
  return uses;
}

const isKeyOfAccess = (node: Node): boolean =>
  isElementAccessExpression(node.parent) && node.parent.argumentExpression === node;

/** A name that a declaration gives, or that a module passes on, and no use of what it names. */
function isDeclared(node: Node): boolean {
  const { parent } = node;
  if (isExportSpecifier(parent)) return true;
  // `{ openLane: open }` takes the name out of an object, `{ open: openLane }` only gives it.
  if (isBindingElement(parent)) return parent.name === node && parent.propertyName !== undefined;
  const declares =
    isFunctionDeclaration(parent) ||
    isVariableDeclaration(parent) ||
    isParameterDeclaration(parent) ||
    isGetAccessorDeclaration(parent);
  return (declares && parent.name === node) || isMemberName(node);
}

function dottedName(node: Node): string | undefined {
  if (isIdentifier(node)) return node.text;
  if (!isPropertyAccessExpression(node)) return undefined;
  const before = dottedName(node.expression);
  return before === undefined ? undefined : `${before}.${node.name.text}`;
}

/** `setTimeout` in `{ setTimeout: 1 }` or in a class names a member, not the global. */
function isMemberName(node: Node): boolean {
  const { parent } = node;
  const member =
    isPropertyAssignment(parent) ||
    isPropertyDeclaration(parent) ||
    isPropertySignatureDeclaration(parent) ||
    isMethodDeclaration(parent) ||
    isMethodSignatureDeclaration(parent);
  return member && parent.name === node;
}
