"""Both passes in words: a line for each step of the explorer's page."""

from collections.abc import Callable

from microgrid.drawing.program import Json, Program
from microgrid.engine import Value

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def transcript(output: Value) -> str:
    """Return the results of the forward pass and the terms of the backward pass, a line for each step.

    Gradients begin at 0, whatever the nodes have. A node without a label is v with a number, as on the page.
    """
    program = Program(output)
    json = program.json()
    rows: dict[Value, Json] = {value: json["rows"][op] for value, op in zip(program.order, json["op"], strict=True)}
    lines = ["Forward"]

    def name(value: Value) -> str:
        if _is_constant(value):
            return _number(value.data)
        label = value.label or f"v{program.index[value]}".translate(SUBSCRIPTS)
        return label if label.replace("_", "").isalnum() else f"({label})"  # as x₁ is, and x*w is not

    def fill(template: str, value: Value, text: Callable[[Value], str]) -> str:
        return template.format(*map(text, value.parents), y=text(value))

    for value in program.order:
        if value.parents:
            formula = rows[value]["formula"]
            texts = [name(value), fill(formula, value, name), fill(formula, value, _operand), _number(value.data)]
            lines.append("  " + " = ".join(dict.fromkeys(texts)))
    lines += ["Backward", f"  {name(output)}.grad = 1"]
    gradients = {output: 1.0}
    for value in filter(gradients.__contains__, reversed(program.order)):
        edges = zip(value.parents, value.op.connected, value.local_derivatives(), strict=True)
        for argument, (parent, connected, derivative) in enumerate(edges):
            if not connected or _is_constant(parent):
                continue
            flow, before = gradients[value] * derivative, gradients.get(parent)
            gradients[parent] = flow if before is None else before + flow
            formula = "" if rows[value]["problem"] else rows[value]["derivatives"][argument]
            texts = [
                f"∂{name(value)}/∂{name(parent)}",
                *[fill(formula, value, name)] * bool(formula),
                _number(derivative),
            ]
            lines.append(
                f"  {name(parent)}.grad += {_number(gradients[value])} × {_operand(derivative)} = {_number(flow)}"
                + ("" if before is None else f", together {_number(gradients[parent])}")
                + f"    where {' = '.join(dict.fromkeys(texts))}"
            )
    return "\n".join(lines)


def _is_constant(value: Value) -> bool:
    return value.op.name == "constant"


def _operand(x: Value | float) -> str:
    """Return a number for a formula: in parentheses if it is negative."""
    text = _number(x.data if isinstance(x, Value) else x)
    return f"({text})" if text.startswith("−") else text


def _number(x: float) -> str:
    return f"{x:.4g}".replace("-", "−")
