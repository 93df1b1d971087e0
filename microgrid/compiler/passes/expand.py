"""Rows that a target does not know, in terms of rows that it does."""

from collections.abc import Callable, Sequence
from functools import partial

from microgrid.compiler.ir import NUMBER, ArrayProgram, Elementwise, Node, Operand, Scan
from microgrid.compiler.passes.builder import Builder, Rules
from microgrid.compiler.passes.scan import rewritten
from microgrid.ops import Op, expand


def expanded(program: ArrayProgram, knows: Callable[[Op], bool], rules: Rules) -> ArrayProgram:
    """Return a program whose rows a target knows: the others are expanded in rows that it does, where they can be.

    Args:
        program: what is to be computed.
        knows: whether the target can compute a row.
        rules: those that hold for what is written.
    """

    def is_known(x: Node) -> bool:
        return not isinstance(x, Elementwise) or x.op.expansion is None or knows(x.op)

    bodies = {x.number: expanded(x.body, knows, rules) for x in program.nodes if isinstance(x, Scan)}
    if not bodies and all(map(is_known, program.nodes)):
        return program
    build = Builder(rules)
    new: dict[int, Operand] = {}
    for x in program.nodes:
        operands = tuple(new[operand.number] if isinstance(operand, Node) else operand for operand in x.operands)
        if isinstance(x, Elementwise) and not is_known(x):
            result = _in_known_rows(build, knows, x.op, operands)
            if isinstance(result, Node) and (result.shape, result.batched) == (x.shape, x.batched):
                new[x.number] = build.apply(NUMBER, result)
                continue
        like = rewritten(x, bodies[x.number]) if isinstance(x, Scan) else x
        new[x.number] = build.remade(like, operands, x.batched)
    return ArrayProgram.of([new[x.number] if isinstance(x, Node) else x for x in program.outputs], program.forms)


def _in_known_rows(build: Builder, knows: Callable[[Op], bool], op: Op, operands: Sequence[Operand]) -> Operand:
    if op.expansion is None or knows(op) or not any(isinstance(x, Node) for x in operands):
        return build.apply(op, *operands)
    result: Operand = expand(op, partial(_in_known_rows, build, knows), operands)
    return result
