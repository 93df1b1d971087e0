"""Formulas that lose digits or overflow, and their replacements."""

import ast
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from microgrid import ops
from microgrid.engine import Value

REWRITES = (
    ("exp(x) - 1", "expm1(x)"),
    ("exp(x) - exp(y)", "exp(y) * expm1(x - y)"),
    ("log(1 + exp(x))", "softplus(x)"),
    ("log(1 + x)", "log1p(x)"),
    ("log(1 - x)", "log1p(-x)"),
    ("log(x) - log(y)", "log1p((x - y) / y)"),
    ("log(sigmoid(x))", "-softplus(-x)"),
    ("log(exp(x) + exp(y))", "logsumexp([x, y])"),
    ("1 - sigmoid(x)", "sigmoid(-x)"),
    ("1 - tanh(x)", "2 * sigmoid(-2 * x)"),
    ("1 - tanh(x)**2", "1 / cosh(x)**2"),
    ("1 - erf(x)", "erfc(x)"),
    ("1 - cos(x)", "2 * sin(x / 2)**2"),
    ("1 - cos(x)**2", "sin(x)**2"),
    ("cosh(x) - 1", "2 * sinh(x / 2)**2"),
    ("sin(x) - sin(y)", "2 * sin((x - y) / 2) * cos((x + y) / 2)"),
    ("cos(x) - cos(y)", "2 * sin((y - x) / 2) * sin((x + y) / 2)"),
    ("sqrt(x**2 + y**2)", "hypot(x, y)"),
    ("sqrt(x) - sqrt(y)", "(x - y) / (sqrt(x) + sqrt(y))"),
    ("sqrt(x**2 + y) - x", "y / (sqrt(x**2 + y) + x)"),
    ("sqrt(x**2 - y) - x", "-y / (sqrt(x**2 - y) + x)"),
    ("sqrt(x**2 - y) + x", "-y / (sqrt(x**2 - y) - x)"),
    ("log(total(exp(x)))", "logsumexp(xs)"),
    ("total(x**2) / n - (total(x) / n)**2", "total((x - total(x) / n)**2) / n"),
    ("x**2 - y**2", "(x - y) * (x + y)"),
    ("1 - x**2", "(1 - x) * (1 + x)"),
    ("1 / x - 1 / y", "(y - x) / (x * y)"),
    ("exp(x) / (exp(x) + exp(y))", "sigmoid(x - y)"),
    ("exp(x) / (1 + exp(x))", "sigmoid(x)"),
)
"""A formula that loses digits or overflows, and an equivalent one that does not; x and y are any parts of a graph."""


def _patterns() -> Iterator[tuple[ast.expr, str, str]]:
    for before, after in REWRITES:
        pattern = ast.parse(before, mode="eval").body
        yield pattern, before, after
        if isinstance(pattern, ast.BinOp) and isinstance(pattern.op, ast.Sub):
            turned = ast.BinOp(pattern.right, ast.Sub(), pattern.left)
            yield turned, ast.unparse(turned), f"-({after})"


PATTERNS = list(_patterns())


def rewrite(node: Value, users: Mapping[Value, Value]) -> str:
    """Return the better form of a node, or of one of the next three computed from it; empty if none is known.

    Args:
        node: an operation that loses digits.
        users: for each node one that uses it.
    """
    at: Value | None = node
    for _ in range(4):
        if at is None:
            break
        for pattern, before, after in PATTERNS:
            found = match(pattern, at, {})
            if found is not None and _helps(after, found, node):
                return _named(f"{before} as {after}", found)
        at = users.get(at)
        while at is not None and at.op is ops.add and (user := users.get(at)) is not None and user.op is at.op:
            at = user  # a sum is one step, however many terms it has
    return ""


Found = dict[str, tuple[Value, ...]]
"""For each name the parts of a graph that it matched: one, or within ``total`` one for each term."""


def _named(text: str, found: Found) -> str:
    """The text with the labels of parts in the place of x and y, if these are words and differ."""
    words = {name: name if others else part.label for name, (part, *others) in found.items()}
    words = {name: word if word.isidentifier() else name for name, word in words.items()}
    if len(set(words.values())) < len(words):
        return text
    return re.sub(r"\w+", lambda word: words.get(word[0], word[0]), text)


def _helps(after: str, found: Found, node: Value) -> bool:
    """Whether the remedy helps here: terms shifted by their maximum are inside logsumexp, and a pole stays a pole."""
    parts = [part.data for several in found.values() for part in several]
    if after.startswith("logsumexp") and not max(parts):
        return False
    if math.isfinite(node.data):
        return True
    numbers = {name: part.data for name, (part, *others) in found.items() if not others} | {"xs": parts}
    try:
        return math.isfinite(eval(after, dict(vars(ops)), numbers))
    except (ArithmeticError, NameError):
        return False


def match(pattern: ast.expr, node: Value, found: Found) -> Found | None:
    """Return the parts of the graph that the names of a pattern match; ``None`` if the node is not of its form."""
    match pattern:
        case ast.Name(id=name):
            return _bound(name, (node,), found)
        case ast.Constant(value=constant):
            return found if node.op is ops.CONSTANT and node.data == constant else None
        case ast.Call(func=ast.Name(id="total"), args=[term]):
            terms = []
            for part in _terms(node):
                within = match(term, part, {})
                if within is None:
                    return None
                terms.append(within["x"][0])
            return _bound("x", tuple(terms), found) if len(terms) > 1 else None
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _each(arguments, node.parents, found) if node.op is ops.TABLE[name] else None
        case ast.BinOp(left=left, op=ast.Pow()):
            square = node.op is ops.power_of(2.0) or (node.op is ops.mul and node.first is node.second)
            return match(left, node.parents[0], found) if square else None
        case ast.BinOp(left=left, op=kind, right=right):
            for pair in _pairs(kind, node):
                matched = _each([left, right], pair, found)
                if matched is not None:
                    return matched
    return None


def _bound(name: str, nodes: tuple[Value, ...], found: Found) -> Found | None:
    known = found.get(name, nodes)
    same = len(known) == len(nodes) and all(
        a is b or (a.op is b.op is ops.CONSTANT and a.data == b.data) for a, b in zip(known, nodes, strict=False)
    )
    return {**found, name: known} if same else None


def _terms(node: Value) -> list[Value]:
    """The terms of a sum, that of ``total`` or of Python's ``sum``, which begins with 0."""
    if node.op.name.startswith("sum["):
        return list(node.parents)
    terms = []
    while node.op is ops.add:
        node, last = node.parents
        terms.append(last)
    begins = node.op is ops.CONSTANT and not node.data
    return terms[::-1] if begins else [node, *terms[::-1]]


def _each(patterns: list[ast.expr], nodes: Iterable[Value], found: Found | None) -> Found | None:
    for pattern, node in zip(patterns, nodes, strict=True):
        if found is None:
            return None
        found = match(pattern, node, found)
    return found


def _pairs(kind: ast.operator, node: Value) -> list[tuple[Value, Value]]:
    """The pairs of operands with which a node is of the form a ∘ b."""
    op = node.op
    if op not in (ops.add, ops.sub, ops.div):
        return []
    a, b = node.parents
    if isinstance(kind, ast.Div):
        return [(a, b)] if op is ops.div else []
    if isinstance(kind, ast.Sub) and op is ops.add:
        return [(p, q.parents[0]) for p, q in ((a, b), (b, a)) if q.op is ops.neg]
    if isinstance(kind, ast.Sub):
        return [(a, b)] if op is ops.sub else []
    return [(a, b), (b, a)] if op is ops.add else []
