// From a compiled module to the same module with all its mutants in it, each behind a switch:
// `a < b` becomes `($m(7) ? (a <= b) : $m(8) ? (a >= b) : (a < b))`. Which number is on, the module
// `switch.mjs` knows.

import { parseAst } from 'vite';

const BINARY = {
  '<': ['<=', '>='],
  '<=': ['<', '>'],
  '>': ['>=', '<='],
  '>=': ['>', '<'],
  '===': ['!=='],
  '!==': ['==='],
  '==': ['!='],
  '!=': ['=='],
  '+': ['-'],
  '-': ['+'],
  '*': ['/'],
  '/': ['*'],
  '%': ['*'],
  '**': ['*'],
  '&': ['|'],
  '|': ['&'],
  '^': ['&'],
  '<<': ['>>'],
  '>>': ['<<'],
  '>>>': ['<<'],
};
const ASSIGNMENT = { '+=': '-=', '-=': '+=', '*=': '/=', '/=': '*=', '??=': '=', '|=': '&=' };
const METHODS = {
  every: 'some',
  some: 'every',
  min: 'max',
  max: 'min',
  floor: 'ceil',
  ceil: 'floor',
  startsWith: 'endsWith',
  endsWith: 'startsWith',
};
/** Calls that are left out, so that what they were called on remains. */
const LEFT_OUT = new Set('filter slice subarray sort toSorted reverse trim flat'.split(' '));

/** Text between words is for people, and tests need not repeat it. */
const isProse = (text) => /\s/.test(text);

const isFunction = (node) => /^(?:Arrow)?Function/.test(node?.type ?? '');

/**
 * Gives `text` with every mutant behind `$m(id)`, the ids from `firstId` on, and the mutants:
 * `{ id, offset, within, operator, original, replacement }`. `within` names the function around it.
 */
export function instrument(text, firstId) {
  const mutants = [];
  const before = new Map();
  const after = new Map();
  /** Nodes that short-circuit with the optional chain they are part of, and cannot stand alone. */
  const chained = new Set();
  const raw = (node) => text.slice(node.start, node.end);

  // Outer nodes come first, so what they put before goes first, and what they put after goes last.
  const putBefore = (at, what) => before.set(at, (before.get(at) ?? '') + what);
  const putAfter = (at, what) => after.set(at, what + (after.get(at) ?? ''));

  function add(node, within, [operator, replacement]) {
    const id = firstId + mutants.length;
    mutants.push({ id, offset: node.start, within, operator, original: raw(node), replacement });
    return id;
  }

  function choose(node, within, replacements) {
    if (replacements.length === 0) return;
    const cases = replacements.map((each) => `$m(${add(node, within, each)}) ? (${each[1]}) : `);
    putBefore(node.start, `(${cases.join('')}(`);
    putAfter(node.end, '))');
  }

  function remove(node, within) {
    putBefore(node.start, `{ if (!$m(${add(node, within, ['statement', ''])})) { `);
    putAfter(node.end, ' } }');
  }

  function visit(node, parent, within) {
    switch (node.type) {
      case 'ImportDeclaration':
      case 'ExportAllDeclaration':
        return;
      case 'ExportNamedDeclaration':
        if (node.source) return;
        break;
      case 'ChainExpression':
        for (let link = node.expression; link; link = link.object ?? link.callee) chained.add(link);
        break;
      case 'BlockStatement':
        if (isFunction(parent) && node.body.length > 0) {
          putBefore(node.start + 1, ` if ($m(${add(node, within, ['body', '{}'])})) return;`);
        }
        break;
      case 'ExpressionStatement':
        if (node.directive) return;
        if (node.expression.callee?.type !== 'Super' && !isAllOfAnIf(parent)) {
          remove(node, within);
        }
        break;
      case 'ReturnStatement':
        if (!node.argument && !isAllOfAnIf(parent)) remove(node, within);
        break;
      case 'ThrowStatement':
      case 'BreakStatement':
      case 'ContinueStatement':
        if (!isAllOfAnIf(parent)) remove(node, within);
        break;
    }
    const replacements = chained.has(node) ? [] : replacementsOf(node, raw);
    if (isTest(node, parent)) {
      // A loop whose condition always holds would only be found by waiting for it.
      if (parent.type === 'IfStatement') replacements.push(['condition', 'true']);
      replacements.push(['condition', 'false']);
    } else if (parent?.type === 'ArrowFunctionExpression' && parent.body === node) {
      const isExpression = node.type !== 'BlockStatement';
      if (isExpression && replacements.length === 0) replacements.push(['body', 'undefined']);
    }
    choose(node, within, replacements);
    for (const [key, child] of childrenOf(node)) visit(child, node, nameOf(node, key, within));
  }

  const program = parseAst(text);
  for (const [, child] of childrenOf(program)) visit(child, program, '');
  let code = '';
  let at = 0;
  const places = new Set([...before.keys(), ...after.keys()]);
  for (const place of [...places].sort((a, b) => a - b)) {
    code += text.slice(at, place) + (after.get(place) ?? '') + (before.get(place) ?? '');
    at = place;
  }
  return { code: code + text.slice(at), mutants };
}

/** What an expression may become: pairs of an operator's name and the text. */
function replacementsOf(node, raw) {
  switch (node.type) {
    case 'BinaryExpression': {
      if (node.operator === '+' && (isText(node.left) || isText(node.right))) return [];
      const others = BINARY[node.operator] ?? [];
      return others.map((other) => ['binary', withOperator(node, other, raw)]);
    }
    case 'LogicalExpression':
      return [
        ['logical', raw(node.left)],
        ['logical', raw(node.right)],
      ];
    case 'ConditionalExpression':
      return [
        ['condition', raw(node.consequent)],
        ['condition', raw(node.alternate)],
      ];
    case 'UnaryExpression':
      return ['!', '-', '~'].includes(node.operator) ? [['unary', raw(node.argument)]] : [];
    case 'UpdateExpression': {
      const other = node.operator === '++' ? '--' : '++';
      return [['update', raw(node).replace(node.operator, other)]];
    }
    case 'AssignmentExpression': {
      const other = ASSIGNMENT[node.operator];
      return other === undefined ? [] : [['assignment', withOperator(node, other, raw)]];
    }
    case 'Literal':
      return literal(node);
    case 'TemplateLiteral':
      return node.quasis.some((part) => isProse(part.value.raw)) ? [] : [['string', "''"]];
    case 'ArrayExpression':
      return node.elements.length > 0 ? [['array', '[]']] : [];
    case 'ObjectExpression':
      return node.properties.length > 0 ? [['object', '{}']] : [];
    case 'CallExpression':
      return call(node, raw);
    case 'ChainExpression':
      return optional(node, raw);
    default:
      return [];
  }
}

function literal({ value, bigint, regex }) {
  if (typeof value === 'boolean') return [['boolean', String(!value)]];
  if (typeof value === 'number') return [['number', value === 0 ? '1' : `${2 * value}`]];
  if (bigint) return [['number', bigint === '0' ? '1n' : `${2n * BigInt(bigint)}n`]];
  if (typeof value === 'string') {
    return isProse(value) ? [] : [['string', value === '' ? "'mutant'" : "''"]];
  }
  if (!regex) return [];
  const { pattern, flags } = regex;
  const found = [];
  if (pattern.startsWith('^')) found.push(['regex', `/${pattern.slice(1)}/${flags}`]);
  if (pattern.endsWith('$')) found.push(['regex', `/${pattern.slice(0, -1)}/${flags}`]);
  return found;
}

function call(node, raw) {
  const { callee } = node;
  if (callee.type !== 'MemberExpression' || callee.computed) return [];
  const { name } = callee.property;
  if (LEFT_OUT.has(name)) return [['method', raw(callee.object)]];
  if (!Object.hasOwn(METHODS, name)) return [];
  const from = callee.property.start - node.start;
  const whole = raw(node);
  const replacement = whole.slice(0, from) + METHODS[name] + whole.slice(from + name.length);
  return [['method', replacement]];
}

/** `a?.b` as `a.b`, for each of a chain's question marks. */
function optional(node, raw) {
  const found = [];
  for (let link = node.expression; link; link = link.object ?? link.callee) {
    if (!link.optional) continue;
    const whole = raw(node);
    const mark = whole.indexOf('?.', (link.object ?? link.callee).end - node.start);
    const dot = link.type === 'MemberExpression' && !link.computed ? '.' : '';
    found.push(['optional', whole.slice(0, mark) + dot + whole.slice(mark + 2)]);
  }
  return found;
}

function withOperator(node, other, raw) {
  const whole = raw(node);
  const at = whole.indexOf(node.operator, node.left.end - node.start);
  return whole.slice(0, at) + other + whole.slice(at + node.operator.length);
}

const isText = (node) =>
  node.type === 'TemplateLiteral' || (node.type === 'Literal' && typeof node.value === 'string');

/** Removing all that an `if` does is the same as its condition being false. */
function isAllOfAnIf(parent) {
  if (parent.type === 'IfStatement') return !parent.alternate;
  return parent.type === 'BlockStatement' && parent.isBranch && parent.body.length === 1;
}

function isTest(node, parent) {
  const types = ['IfStatement', 'WhileStatement', 'DoWhileStatement', 'ForStatement'];
  return types.includes(parent?.type) && parent.test === node;
}

/** The parts of a node that hold expressions or statements, with their keys. */
function childrenOf(node) {
  const found = [];
  for (const [key, value] of Object.entries(node)) {
    const isName = key === 'key' || key === 'property' || key === 'label' || key === 'id';
    if (isName && !node.computed && node.type !== 'VariableDeclarator') continue;
    if (node.type === 'TaggedTemplateExpression' && key === 'quasi') continue;
    for (const child of Array.isArray(value) ? value : [value]) {
      if (typeof child?.type === 'string') found.push([key, child]);
    }
  }
  if (node.type === 'IfStatement' && !node.alternate) node.consequent.isBranch = true;
  return found;
}

/** The name of what is around the part `key` of `node`. */
function nameOf(node, key, within) {
  const path = (name) => (within === '' ? name : `${within}.${name}`);
  if (key === 'body' && node.type === 'ClassBody') return within;
  if (key === 'body' && /^(?:Class|FunctionDeclaration)/.test(node.type) && node.id) {
    return path(node.id.name);
  }
  if (key === 'value' && /^(?:MethodDefinition|PropertyDefinition)$/.test(node.type)) {
    return path(node.key.name ?? '');
  }
  if (key === 'init' && isFunction(node.init)) return path(node.id.name ?? '');
  return within;
}
