"""The classic diagram of a network: a circle per neuron, and a line per weight."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from microgrid.calls import titles
from microgrid.drawing.drawable import Options
from microgrid.drawing.labels import SANS, SIZE, heading, markup
from microgrid.drawing.picture import Picture
from microgrid.theme import THEMES, largest, sign_and_level

SHOWN = 16
"""The most neurons of a layer that are drawn: of more, the first and the last ones."""

NEURON_DISTANCE, RADIUS = 0.55, 0.19  # inches

PARAMETER = re.compile(r"(?:(?P<layer>.*?)\.?neurons\.(?P<neuron>\d+)\.)?(?:w\.(?P<input>\d+)|b)")
"""The name of a parameter of a neuron, as ``named_parameters()`` gives it."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Neurons side by side: ``weights[j][i]`` leads from unit ``i`` of the layer before to neuron ``j``.

    ``name`` is the dotted one, empty for the model itself; ``title`` is the name of the layer in all pictures.
    """

    name: str
    title: str
    weights: dict[int, dict[int, float]]
    biases: dict[int, float]

    @property
    def inputs(self) -> int:
        """The number of inputs of a neuron."""
        return len(self.weights[0])


@dataclass(frozen=True, slots=True)
class Network:
    """The layers of a model one after the other; ``others`` counts parameters that are in no neuron."""

    layers: list[Layer]
    others: int


def suits(what: object) -> bool:
    """Return whether something has parameters with names, as every module has."""
    return callable(getattr(what, "named_parameters", None)) and not isinstance(what, type)


def picture(model: Any, options: Options) -> Picture:
    """Draw the layers of a model."""
    network = network_of(model)
    dot = network_dot(network, title=options.title, theme=options.paper, legend=options.legend)
    return options.picture(dot, network_descriptions(network))


def network_of(model: Any) -> Network:
    """Return the layers of neurons of a model, in the order in which it holds them.

    Raises:
        ValueError: if it has none, or one does not fit the outputs of the one before.
    """
    return stack(model, ((name, parameter.data) for name, parameter in model.named_parameters()))


def parameter_groups(model: Any) -> Iterable[tuple[Any, str]]:
    """Yield the parameters of neurons, each with the name of its group: ``"Layer 0 · w"``."""
    called = titles(model)
    for name, parameter in model.named_parameters():
        if match := PARAMETER.fullmatch(name):
            path = match["layer"] or ""
            yield parameter, f"{called.get(path, path)} · {'b' if match['input'] is None else 'w'}"


def stack(model: Any, parameters: Iterable[tuple[str, float]]) -> Network:
    """Return the layers of neurons formed by named numbers of a model.

    Raises:
        ValueError: if there is no neuron, or a layer does not fit the outputs of the one before.
    """
    layers: dict[str, Layer] = {}
    called = titles(model)
    others = 0
    for name, number in parameters:
        match = PARAMETER.fullmatch(name)
        if match is None:
            others += 1
            continue
        path = match["layer"] or ""
        layer = layers.setdefault(path, Layer(path, called.get(path, path), {}, {}))
        neuron = int(match["neuron"] or 0)
        if match["input"] is None:
            layer.biases[neuron] = number
        else:
            layer.weights.setdefault(neuron, {})[int(match["input"])] = number
    found = list(layers.values())
    if not found:
        raise ValueError(
            f"draw() draws the neurons of a model, and this {type(model).__name__} has none; draw(model(x)) draws its "
            "graph"
        )
    for before, after in pairwise(found):
        if len(before.weights) != after.inputs:
            raise ValueError(
                f"draw() draws layers one after the other, but {before.title} gives {len(before.weights)} numbers "
                f"and {after.title} takes {after.inputs}; draw(model(x)) draws the graph of any model"
            )
    return Network(found, others)


def network_dot(network: Network, *, title: str, theme: str, legend: bool = True) -> str:
    """Return the DOT text of the diagram, with every position."""
    color = THEMES[theme]
    layers = network.layers
    sizes = [layers[0].inputs, *[len(layer.weights) for layer in layers]]
    shown = [shown_of(size) for size in sizes]
    lines_drawn = sum(len(a) * len(b) for a, b in pairwise(shown))
    dense = lines_drawn > 200
    widest = 3.8 * min(1.0, math.sqrt(200 / lines_drawn))
    most = largest(w for layer in layers for weights in layer.weights.values() for w in weights.values())
    lines_are = f"line: weight, wide if large, blue if positive, orange {'' if dense else 'and dashed '}if negative"
    notes = [lines_are] * legend
    if network.others:
        notes.append(f"{network.others:,} parameters of the model are in no neuron, and not shown")
    height = max(map(len, shown)) * NEURON_DISTANCE
    layer_distance = max(2.2, height / 3)
    lines = [
        "graph {",
        f'graph [layout=neato splines=line outputorder=edgesfirst bgcolor="{color["paper"]}" pad=0.2 '
        f'fontname="{SANS}" fontsize={SIZE + 3:g} fontcolor="{color["ink"]}" labelloc=t]',
        heading(title, notes, color),
        f"node [shape=circle style=filled fixedsize=true width={2 * RADIUS:g} penwidth=1.4 "
        f'color="{color["ink"]}" fillcolor="{color["input"]}" fontname="{SANS}" fontsize={SIZE - 4:g} '
        f'fontcolor="{color["ink"]}"]',
    ]
    for column, (size, units) in enumerate(zip(sizes, shown, strict=True)):
        rows = [*units[: len(units) // 2], None, *units[len(units) // 2 :]] if len(units) < size else [*units]
        x = column * layer_distance
        top = (len(rows) - 1) / 2 * NEURON_DISTANCE
        for row, unit in enumerate(rows):
            y = top - row * NEURON_DISTANCE
            if unit is None:
                lines.append(f'{_plain(f"gap{column}", x, y, color["muted"])} label="{size - len(units)} more"]')
            else:
                fill = ""
                if column:
                    sign, level = sign_and_level(layers[column - 1].biases.get(unit, 0.0), most)
                    fill = f' fillcolor="{color[f"{sign} {level}"]}"' if level else ""
                lines.append(f'u{column}_{unit} [id="u{column}_{unit}" pos="{x:g},{y:g}!"{fill} label="{unit}"]')
        kind = "input" if column == 0 else "neuron"
        name = f"{size:,} {kind}{'s' * (size > 1)}"
        if column:
            name = f"{layers[column - 1].title}\n{name}"
        lines.append(
            f"{_plain(f'name{column}', x, -height / 2 - NEURON_DISTANCE, color['muted'])} "
            f"fontsize={SIZE - 2:g} label=<{markup(name, 'CENTER')}>]"
        )
    for column, layer in enumerate(layers):
        for neuron in shown[column + 1]:
            for unit in shown[column]:
                weight = layer.weights[neuron][unit]
                sign, level = sign_and_level(weight, most)
                lines.append(
                    f'u{column}_{unit} -- u{column + 1}_{neuron} [id="w{column}_{neuron}_{unit}" '
                    f'color="{color[f"{sign} line {level}" if level else "faint"]}" '
                    f"penwidth={0.3 + widest * abs(weight) / most if level else 0.3:.3g}"
                    f"{' style=dashed' * (weight < 0 and not dense)}]"
                )
    return "\n".join([*lines, "}", ""])


def network_descriptions(network: Network) -> dict[str, str]:
    """Return a description for the id of each circle and line."""
    texts = {f"u0_{i}": f"input {i}" for i in range(network.layers[0].inputs)}
    for column, layer in enumerate(network.layers):
        for neuron, weights in layer.weights.items():
            texts[f"u{column + 1}_{neuron}"] = (
                f"{layer.title} · Neuron {neuron}: bias {layer.biases.get(neuron, 0.0)!r}"
            )
            for unit, weight in weights.items():
                texts[f"w{column}_{neuron}_{unit}"] = f"{layer.title} · Neuron {neuron}: weight {unit} = {weight!r}"
    return texts


def shown_of(size: int) -> list[int]:
    """Return the numbers of the neurons that are drawn in a layer of this size."""
    return list(range(size)) if size <= SHOWN else [*range(SHOWN // 2), *range(size - SHOWN // 2, size)]


def _plain(name: str, x: float, y: float, color: str) -> str:
    return f'{name} [shape=plaintext style="" fixedsize=false width=0 fontcolor="{color}" pos="{x:g},{y:g}!"'
