"""A GPT written on scalars, of the kind that is taught: the class, the model and Adam in one file, no package needed.

    python benchmarks/gpt.py

Its ``Value`` stores in each node its children and the local gradients by them. ``eager.py`` and the tests put ours in
its place (``gpt.Value = microgrid.Value``) and run the same text.
"""

import itertools
import math
import random
from collections.abc import Iterable
from typing import Any

WORDS = [
    "andesite",
    "basalt",
    "chalk",
    "diorite",
    "felsite",
    "gabbro",
    "gneiss",
    "granite",
    "gypsum",
    "marble",
    "schist",
]
LETTERS = sorted(set("".join(WORDS)))
START = len(LETTERS)
"""The token that begins a word, and ends it."""

WIDTH, HEADS, CONTEXT = 16, 4, 16


class Value:
    """A number, its gradient, the numbers it was computed from, and its derivatives by them."""

    __slots__ = ("_children", "_local_grads", "data", "grad")

    def __init__(self, data: float, children: Any = (), local_grads: Any = ()) -> None:
        self.data = data
        self.grad = 0
        self._children = children
        self._local_grads = local_grads

    def __add__(self, other: Any) -> "Value":
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other: Any) -> "Value":
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> "Value":
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def log(self) -> "Value":
        """Return log self, whose derivative is 1/self."""
        return Value(math.log(self.data), (self,), (1 / self.data,))

    def exp(self) -> "Value":
        """Return e to the power of self, which is its own derivative."""
        y = math.exp(self.data)
        return Value(y, (self,), (y,))

    def relu(self) -> "Value":
        """Return the greater of self and 0."""
        return Value(max(0, self.data), (self,), (float(self.data > 0),))

    def __neg__(self) -> "Value":
        return self * -1

    def __radd__(self, other: float) -> "Value":
        return self + other

    def __sub__(self, other: "Value | float") -> "Value":
        return self + (-other)

    def __rsub__(self, other: float) -> "Value":
        return other + (-self)

    def __rmul__(self, other: float) -> "Value":
        return self * other

    def __truediv__(self, other: "Value | float") -> "Value":
        return self * other**-1

    def __rtruediv__(self, other: float) -> "Value":
        return other * self**-1

    def backward(self) -> None:
        """Add to each number's gradient what the chain rule brings there."""
        order = []
        visited = set()

        def visit(node: "Value") -> None:
            if node not in visited:
                visited.add(node)
                for child in node._children:
                    visit(child)
                order.append(node)

        visit(self)
        self.grad = 1
        for node in reversed(order):
            for child, local_grad in zip(node._children, node._local_grads, strict=True):
                child.grad += local_grad * node.grad


def parameters() -> dict[str, Any]:
    """The weights, drawn at random: matrices as lists of rows."""
    draw = random.Random(42)
    shapes = {"token": (START + 1, WIDTH), "position": (CONTEXT, WIDTH), "output": (START + 1, WIDTH)}
    shapes |= dict.fromkeys(("query", "key", "value", "attention"), (WIDTH, WIDTH))
    shapes |= {"up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH)}
    return {
        name: [[Value(draw.gauss(0, 0.08)) for _ in range(columns)] for _ in range(rows)]
        for name, (rows, columns) in shapes.items()
    }


def numbers(weights: dict[str, Any]) -> list[Any]:
    return [p for matrix in weights.values() for row in matrix for p in row]


def linear(x: list[Any], matrix: list[list[Any]]) -> list[Any]:
    return [sum(w * xi for w, xi in zip(row, x, strict=True)) for row in matrix]


def softmax(logits: list[Any]) -> list[Any]:
    largest = max(logit.data for logit in logits)
    powers = [(logit - largest).exp() for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def normalised(x: list[Any]) -> list[Any]:
    square = sum(xi * xi for xi in x) / len(x)
    scale = (square + 1e-5) ** -0.5
    return [xi * scale for xi in x]


def logits_of(token: int, position: int, keys: list[Any], values: list[Any], weights: dict[str, Any]) -> list[Any]:
    """One position of the sequence: attention to all before it, whose keys and values are kept, and a network."""
    x = [t + p for t, p in zip(weights["token"][token], weights["position"][position], strict=True)]
    x = normalised(x)
    residual, x = x, normalised(x)
    query = linear(x, weights["query"])
    keys.append(linear(x, weights["key"]))
    values.append(linear(x, weights["value"]))
    heads = []
    size = WIDTH // HEADS
    for start in range(0, WIDTH, size):
        part = range(start, start + size)
        scores = [sum(query[j] * key[j] for j in part) / size**0.5 for key in keys]
        shares = softmax(scores)
        heads += [sum(share * value[j] for share, value in zip(shares, values, strict=True)) for j in part]
    x = [a + b for a, b in zip(linear(heads, weights["attention"]), residual, strict=True)]
    residual, x = x, normalised(x)
    x = linear([xi.relu() for xi in linear(x, weights["up"])], weights["down"])
    x = [a + b for a, b in zip(x, residual, strict=True)]
    return linear(x, weights["output"])


def loss_of(word: str, weights: dict[str, Any]) -> Any:
    """The mean of −log p over the letters of a word and its end."""
    tokens = [START, *map(LETTERS.index, word), START][: CONTEXT + 1]
    keys: list[Any] = []
    values: list[Any] = []
    losses = []
    for position, (token, target) in enumerate(itertools.pairwise(tokens)):
        shares = softmax(logits_of(token, position, keys, values, weights))
        losses.append(-shares[target].log())
    return (1 / len(losses)) * sum(losses)


def train(words: Iterable[str], steps: int) -> list[float]:
    """Take Adam's steps, a word each; return the losses."""
    weights = parameters()
    parts = numbers(weights)
    first, second = [0.0] * len(parts), [0.0] * len(parts)
    losses = []
    for step, word in zip(range(steps), words, strict=False):
        loss = loss_of(word, weights)
        loss.backward()
        rate = 0.01 * (1 - step / steps)
        for i, p in enumerate(parts):
            first[i] = 0.85 * first[i] + 0.15 * p.grad
            second[i] = 0.99 * second[i] + 0.01 * p.grad**2
            p.data -= (
                rate * (first[i] / (1 - 0.85 ** (step + 1))) / ((second[i] / (1 - 0.99 ** (step + 1))) ** 0.5 + 1e-8)
            )
            p.grad = 0
        losses.append(loss.data)
    return losses


if __name__ == "__main__":
    for word, loss in zip(WORDS, train(WORDS, len(WORDS)), strict=True):
        print(f"{word:10} {loss:.4f}")
