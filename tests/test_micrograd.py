"""Code written for micrograd runs here with only the import's name changed, and gives the same numbers."""

import importlib
import os
import random
import subprocess
import sys

import pytest

from microgrid import Value

LIBRARIES = ["microgrid", "micrograd"]


def in_both(program):
    """Run a program, given the modules ``engine`` and ``nn``, with this package and with micrograd 0.1.0."""
    results = []
    for library in LIBRARIES:
        random.seed(1337)
        results.append(program(importlib.import_module(f"{library}.engine"), importlib.import_module(f"{library}.nn")))
    return results


def few_operations(engine, nn):
    x = engine.Value(-4.0)
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    h = (z * z).relu()
    y = h + q + q * x
    y.backward()
    return [y.data, x.grad]


def many_operations(engine, nn):
    a, b = engine.Value(-4.0), engine.Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    return [g.data, a.grad, b.grad]


def names_of_the_graph(engine, nn):
    x = engine.Value(1.0)
    y = (x * 2 + 1).relu()
    y.backward()
    nodes, edges = set(), set()

    def build(v):
        if v not in nodes:
            nodes.add(v)
            for child in v._prev:
                edges.add((child, v))
                build(child)

    build(y)
    return [*sorted((n._op, f"{n.data:.4f}", f"{n.grad:.4f}") for n in nodes), len(edges)]


def a_neuron(engine, nn):
    n = nn.Neuron(2)
    x = [engine.Value(1.0), engine.Value(-2.0)]
    y = n(x)
    y.backward()
    return [y.data, *[p.grad for p in n.parameters()], repr(n), x[0].grad]


def the_names_of_layers(engine, nn):
    model = nn.MLP(3, [4, 2])
    return [
        repr(model),
        repr(model.layers[0]),
        len(model.parameters()),
        len(model([1.0, 2.0, 3.0])),
        [w.data for w in model.layers[0].neurons[1].w],
    ]


def three_steps_on_moons(engine, nn):
    points = [(random.uniform(-1, 1), random.uniform(-1, 1)) for _ in range(20)]
    labels = [1 if x * y > 0 else -1 for x, y in points]
    model = nn.MLP(2, [16, 16, 1])
    history = []
    for k in range(3):
        inputs = [list(map(engine.Value, point)) for point in points]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(labels, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        reg_loss = 1e-4 * sum(p * p for p in model.parameters())
        total_loss = data_loss + reg_loss
        model.zero_grad()
        total_loss.backward()
        for p in model.parameters():
            p.data -= (1.0 - 0.9 * k / 100) * p.grad
        history += [total_loss.data, sum((yi > 0) == (s.data > 0) for yi, s in zip(labels, scores, strict=True))]
    return history


@pytest.mark.parametrize(
    "program",
    [few_operations, many_operations, names_of_the_graph, a_neuron, the_names_of_layers, three_steps_on_moons],
)
def test_a_micrograd_program_gives_the_same_here(program):
    ours, theirs = in_both(program)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == (pytest.approx(other, rel=1e-12) if isinstance(other, float) else other)


def test_a_value_has_the_small_methods_that_programs_for_pytorch_call():
    x = Value(3.0)
    y = x.square() + x.detach() * x
    y.backward()
    assert (y.item(), x.grad) == (18.0, 9.0)
    assert type(y.item()) is float
    x.zero_grad()
    assert x.grad == 0.0


def test_its_drawing_with_the_graphviz_package_needs_no_system_graphviz(tmp_path):
    program = """
from graphviz import Digraph
from microgrid.drawing.rendering import lend_to_graphviz
from microgrid.engine import Value

lend_to_graphviz()

y = (Value(1.0) * 2 + 1).relu()
dot = Digraph(format="svg", graph_attr={"rankdir": "LR"})
dot.node(name=str(id(y)), label="{ data %.4f | grad %.4f }" % (y.data, y.grad), shape="record")
print(dot._repr_image_svg_xml())
dot.render("gout")
"""
    environment = {**os.environ, "PATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert "data 3.0000" in result.stdout
    assert "data 3.0000" in (tmp_path / "gout.svg").read_text(encoding="utf-8")


def test_importing_microgrid_changes_nothing_in_the_graphviz_package():
    program = """
import graphviz.backend.dot_command as commands
before = dict(vars(commands))
import microgrid
print(vars(commands) == before)
"""
    environment = {**os.environ, "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
