// A linter for the script of a page, by the parser that node carries: node --expose-internals _names.cjs LINE < script.
// It finds names that nothing declares, names that nothing uses (from LINE on: before it is what all pages share),
// `var`, and comparisons that convert.
"use strict";
const acorn = require("internal/deps/acorn/acorn/dist/acorn");

const OF_THE_BROWSER = new Set(["document", "window", "Node", "HTMLTableCellElement", "ResizeObserver"]);
const OF_THE_LANGUAGE = new Set(["Array", "Boolean", "Infinity", "Intl", "JSON", "Map", "Math", "Number", "Object", "Set", "String", "undefined"]);
const SCOPES = /^(Program|BlockStatement|For.*Statement|CatchClause|Function.*|ArrowFunctionExpression)$/;
const FIRST_LINE = Number(process.argv[2] ?? 1);
const complaints = [];
const complain = (node, text) => complaints.push(`line ${node.loc.start.line}: ${text}`);
const isNode = (value) => value !== null && typeof value === "object" && typeof value.type === "string";
const childrenOf = (node) => Object.values(node).flat().filter(isNode);

// The identifiers that a pattern of a declaration or a parameter binds.
function bound(pattern) {
  switch (pattern.type) {
    case "Identifier": return [pattern];
    case "ObjectPattern": return pattern.properties.flatMap((property) => bound(property.value ?? property.argument));
    case "ArrayPattern": return pattern.elements.filter(Boolean).flatMap(bound);
    case "AssignmentPattern": return bound(pattern.left);
    case "RestElement": return bound(pattern.argument);
    default: return [];
  }
}

const declaredBy = (node) => node.type === "VariableDeclaration" ? node.declarations.flatMap((one) => bound(one.id))
  : node.type === "FunctionDeclaration" || node.type === "ClassDeclaration" ? [node.id] : [];

// What is declared in a scope itself, wherever in it: none of ours lean on a name before it is there.
function declaredIn(node) {
  const own = childrenOf(node).filter((child) => child !== node.id).flatMap(declaredBy);
  const parameters = (node.params ?? (node.param ? [node.param] : [])).flatMap(bound);
  const itself = node.type === "FunctionExpression" && node.id ? [node.id] : [];
  return new Map([...own, ...parameters, ...itself].map((name) => [name.name, { node: name, is_used: false }]));
}

function use(identifier, scopes) {
  const scope = scopes.find((names) => names.has(identifier.name));
  if (scope) scope.get(identifier.name).is_used ||= scope.get(identifier.name).node !== identifier;
  else if (!OF_THE_BROWSER.has(identifier.name) && !OF_THE_LANGUAGE.has(identifier.name)) complain(identifier, `${identifier.name} is not defined`);
}

function walk(node, scopes) {
  const own = SCOPES.test(node.type) ? declaredIn(node) : null;
  const inside = own ? [own, ...scopes] : scopes;
  if (node.type === "VariableDeclaration" && node.kind === "var") complain(node, "var: use const or let");
  if (node.type === "BinaryExpression" && /^[!=]=$/.test(node.operator)) complain(node, `${node.operator} converts: use ${node.operator}=`);
  if (node.type === "Identifier") use(node, inside);
  for (const child of childrenOf(node)) {
    const isName = !node.computed && ((node.type === "MemberExpression" && child === node.property) || (node.type === "Property" && child === node.key));
    if (!isName) walk(child, inside);
  }
  for (const [name, { node: at, is_used }] of own ?? []) if (!is_used && at.loc.start.line >= FIRST_LINE) complain(at, `${name} is never used`);
}

walk(acorn.parse(require("fs").readFileSync(0, "utf8"), { ecmaVersion: 2022, locations: true }), []);
if (complaints.length) {
  console.error(complaints.join("\n"));
  process.exit(1);
}
