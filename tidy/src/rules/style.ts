import {
  isCallExpression,
  isFunctionLikeDeclaration,
  isIdentifier,
  isImportDeclaration,
  isMethodDeclaration,
  isMethodSignatureDeclaration,
  isNamedImports,
  isNewExpression,
  isPropertyAccessExpression,
  isPropertyAssignment,
  isPropertyDeclaration,
  isPropertySignatureDeclaration,
  isStringLiteral,
  type Node,
} from 'typescript/unstable/ast';
import { adapters, banned } from '../allowed.ts';
import { isTest, lineAt, type Repository, type Source, type Violation } from '../repository.ts';

const maxLineColumns = 100;
const maxFileLines = 500;
const maxFunctionLines = 70;

/** Code as people read it: TypeScript, scripts, kernels. */
const readable = /^(?:packages\/[^/]+\/(?:src|kernels)|scripts|tidy\/src|\.ci)\//;

export function lineLength({ files }: Repository): Violation[] {
  const long = (line: string): boolean =>
    [...line].length > maxLineColumns && !line.includes('https://');
  return linesWhere(files, long, `the line is longer than ${maxLineColumns} columns`);
}

export function unfinished({ files }: Repository): Violation[] {
  const mark = new RegExp(`\\b(?:${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX'].join('|')})\\b`);
  return linesWhere(files, (line) => mark.test(line), 'finish it, or write an issue');
}

function linesWhere(
  files: ReadonlyMap<string, string>,
  matches: (line: string) => boolean,
  message: string,
): Violation[] {
  const violations: Violation[] = [];
  for (const [path, text] of files) {
    if (!readable.test(path)) continue;
    for (const [index, line] of text.split('\n').entries()) {
      if (matches(line)) violations.push({ path, line: index + 1, message });
    }
  }
  return violations;
}

export function fileLength({ files }: Repository): Violation[] {
  const violations: Violation[] = [];
  for (const [path, text] of files) {
    const lines = text.split('\n').length - 1;
    if (!readable.test(path) || lines <= maxFileLines) continue;
    violations.push({
      path,
      line: 0,
      message: `${lines} lines, at most ${maxFileLines}: split it`,
    });
  }
  return violations;
}

export function functionLength({ sources }: Repository): Violation[] {
  return sources.flatMap((source) => {
    const violations: Violation[] = [];
    const visit = (node: Node): void => {
      if (isFunctionLikeDeclaration(node) && !isSuite(node, source)) {
        const line = lineAt(source.ast, node.getStart(source.ast));
        const lines = lineAt(source.ast, node.getEnd()) - line + 1;
        if (lines > maxFunctionLines) {
          const message = `a function of ${lines} lines, at most ${maxFunctionLines}: split it`;
          violations.push({ path: source.path, line, message });
        }
      }
      node.forEachChild(visit);
    };
    visit(source.ast);
    return violations;
  });
}

/** The body of `describe(...)` is a chapter of a test file, not a function to be read at once. */
function isSuite(node: Node, { path, ast }: Source): boolean {
  if (!isTest(path) && !path.includes('/contract/')) return false;
  return isCallExpression(node.parent) && /^describe\b/.test(node.parent.expression.getText(ast));
}

export function bannedNames({ sources }: Repository): Violation[] {
  return sources.flatMap((source) => {
    const allowed = adapters.filter(({ path }) => source.path.startsWith(path));
    const violations: Violation[] = [];
    for (const { name, line } of globalsUsed(source)) {
      const rule = banned.find((entry) => name === entry.name || name.startsWith(`${entry.name}.`));
      if (rule === undefined || allowed.some(({ names }) => names.includes(rule.name))) continue;
      const message = `${name} is for adapters only: ${rule.instead}`;
      violations.push({ path: source.path, line, message });
    }
    return violations;
  });
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
