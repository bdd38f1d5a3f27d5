import {
  isAsExpression,
  isCallExpression,
  isFunctionLikeDeclaration,
  isObjectLiteralExpression,
  isParenthesizedExpression,
  isSatisfiesExpression,
  isSpreadAssignment,
  type Node,
} from 'typescript/unstable/ast';
import {
  isTest,
  lineAt,
  type Repository,
  type Rule,
  type Source,
  type Violation,
} from '../repository.ts';

const maxLineColumns = 100;

/**
 * Where a number of lines is a smell: past it a file holds more than one theme, or a function more
 * than one thought. Far above what is usual here on purpose: a limit that is met daily makes people
 * fold lines and split what belongs together. A test, a kernel and a literal are as long as they
 * are, since reading them needs no memory of what stood before.
 */
const manyFileLines = 1000;
const manyFunctionLines = 150;

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

/** `reasoned` are the paths that may be longer, each with why. */
export function fileLength(reasoned: Readonly<Record<string, string>>): Rule {
  return ({ files }) => {
    const violations: Violation[] = [];
    for (const [path, text] of files) {
      const lines = text.split('\n').length - 1;
      if (!readable.test(path) || lines <= manyFileLines) continue;
      if (isTest(path) || isKernel(path) || path in reasoned) continue;
      const message = `${lines} lines: split it by theme, or say why not in tidy/src/allowed.ts`;
      violations.push({ path, line: 0, message });
    }
    return violations;
  };
}

const isKernel = (path: string): boolean => /\.cuh?$/.test(path);

export function functionLength({ sources }: Repository): Violation[] {
  return sources.flatMap((source) => {
    if (isTest(source.path)) return [];
    const violations: Violation[] = [];
    const visit = (node: Node): void => {
      if (isFunctionLikeDeclaration(node) && !isSuite(node, source)) {
        const line = lineAt(source.ast, node.getStart(source.ast));
        const lines = lineAt(source.ast, node.getEnd()) - line + 1;
        if (lines > manyFunctionLines) {
          const message = `a function of ${lines} lines, at most ${manyFunctionLines}: split it`;
          violations.push({ path: source.path, line, message });
        }
      }
      node.forEachChild(visit);
    };
    visit(source.ast);
    return violations;
  });
}

/** The body of `describe(...)` is a chapter of a suite, not a function to be read at once. */
function isSuite(node: Node, { path, ast }: Source): boolean {
  if (!path.includes('/contract/')) return false;
  return isCallExpression(node.parent) && /^describe\b/.test(node.parent.expression.getText(ast));
}

/**
 * `{ ...{ a, b }, c }` means `{ a, b, c }` and only keeps a formatter from giving each property its
 * line. What depends on a condition is another matter: `...(x ? { a } : {})` stays.
 */
export function packedLiterals({ sources }: Repository): Violation[] {
  return sources.flatMap(({ path, ast }) => {
    const violations: Violation[] = [];
    const visit = (node: Node): void => {
      if (isSpreadAssignment(node) && isObjectLiteralExpression(bare(node.expression))) {
        const line = lineAt(ast, node.getStart(ast));
        const message = 'a literal spread into a literal: write the properties out';
        violations.push({ path, line, message });
      }
      node.forEachChild(visit);
    };
    visit(ast);
    return violations;
  });
}

/** Without the parentheses and the type that may stand around an expression. */
function bare(node: Node): Node {
  const wrapped =
    isParenthesizedExpression(node) || isAsExpression(node) || isSatisfiesExpression(node);
  return wrapped ? bare(node.expression) : node;
}
