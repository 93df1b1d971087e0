"""Pictures of kernels: boxes with shapes, what they are to the user, and what cannot be drawn."""

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from programs import cases, formed

import microgrid as mg
from microgrid.compiler import compile
from microgrid.nn import MLP, Affine, ReLU, Sequential
from microgrid.theme import DARK, LIGHT

SVG = "{http://www.w3.org/2000/svg}"


def layer():
    """The mean of four neurons of three inputs."""
    weights = [[mg.Value(0.1 * (j - k), f"w{j}{k}") for k in range(3)] for j in range(4)]
    return compile(lambda x: mg.mean([mg.relu(mg.dot(w, x)) for w in weights]))


def drawn(f, *arguments, **options):
    return mg.draw(compile(f, **options).kernel(*arguments))


def boxes(picture):
    """For the name of each box the words in it, and the sentence that it is in words."""
    groups = [g for g in ElementTree.fromstring(picture.svg).iter(f"{SVG}g") if g.get("class", "").startswith("node")]
    return {
        g.get("id"): (
            " ".join("".join(text.itertext()).replace("\xa0", " ").strip() for text in g.iter(f"{SVG}text")),
            g.find(f"{SVG}title").text,
        )
        for g in groups
    }


def words(picture):
    return [text for text, _ in boxes(picture).values()]


def all_text(picture):
    return [text.text.replace("\xa0", " ").strip() for text in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")]


def edges(picture):
    """Operand and result of each edge, by the words in their boxes."""
    text = {name: words for name, (words, _) in boxes(picture).items()}
    found = re.findall(r"^(v\w+) -> (v\w+) \[(dir=back)?", picture.dot, flags=re.MULTILINE)
    return {(text[b], text[a]) if back else (text[a], text[b]) for a, b, back in found}


def test_a_kernel_is_drawn_as_statements_with_their_shapes():
    kernel = layer().kernel(np.ones((2, 3)))
    picture = mg.draw(kernel, title="A layer")
    count, forward = len(kernel.statements()), len(kernel.statements("value"))
    summary = f"38 nodes → {count} statements ({forward} forward, {count - forward} backward)"
    assert {"A layer", summary} <= set(all_text(picture))
    assert {"forward pass", "backward pass"} <= set(all_text(picture))
    product = "@ 4 × batch over 3"
    assert {
        ("x 3 × batch", product),
        ("w00 … w32 4 × 3", product),
        (product, "ReLU 4 × batch"),
        ("Σ number over batch", "÷ batch output number"),
        ("x 3 × batch", "@ gradient 4 × 3 over batch"),
    } <= edges(picture)


def test_the_parameters_of_modules_are_named_by_their_layers_even_if_the_model_is_gone():
    def kernel():
        model = Sequential(Affine(3, 4, seed=0), ReLU(), MLP(4, [5, 2], seed=1))
        return compile(lambda x: mg.total(model(x))).kernel(np.ones((2, 3)))

    named = [(box.symbol, box.shape) for box in kernel().boxes() if box.kind == "parameter"]
    assert sorted(named) == [
        ("Affine 0 · b", "4"),
        ("Affine 0 · w", "4 × 3"),
        ("MLP 2 · Layer 0 · b", "5"),
        ("MLP 2 · Layer 0 · w", "5 × 4"),
        ("MLP 2 · Layer 1 · b", "2"),
        ("MLP 2 · Layer 1 · w", "2 × 5"),
    ]


def test_each_box_and_edge_of_a_kernel_says_in_a_sentence_what_it_is():
    picture = mg.draw(layer().kernel(np.ones((2, 3))))
    assert ("@ 4 × batch over 3", "contract: the sum of products over 3; shape 4 × batch") in boxes(picture).values()
    titles = [title.text for title in ElementTree.fromstring(picture.svg).iter(f"{SVG}title")]
    assert "w00 … w32 (4 × 3) → contract (4 × batch), operand 2 of 2" in titles
    assert all(sentence for _, sentence in boxes(picture).values())


@pytest.mark.parametrize(
    ("name", "form", "by"),
    [("f", "batch", "both"), ("f", "batch", "value"), ("f", "lifted", "both"), ("f", "floats", "both"),
     ("g", "batch", "both")],
)  # fmt: skip
@given(case=cases(max_steps=5))
def test_any_kernel_is_boxes_after_their_operands_and_each_result_is_in_one(name, form, by, case):
    f = case.function([mg.Value(x) for x in case.parameters], name)
    batch = case.batch if form == "batch" else [argument[0] for argument in case.batch]
    kernel = compile(f, batch=form == "batch").kernel(*batch)
    if form != "batch":
        formed(kernel, form)
    found = kernel.boxes(by)
    assert all(not isinstance(x, int) or x < k for k, box in enumerate(found) for x in box.operands)
    assert [box.name for box in found if box.operands] == [x.name for x in kernel.statements(by)]
    results = [result for box in found for result in box.results]
    assert len(results) == len(set(results))
    assert name == "g" or "output" in results
    assert form == "floats" or by == "value" or "gradient" in results
    used = {x for box in found for x in box.operands if isinstance(x, int)}
    assert all(k in used or box.results for k, box in enumerate(found))
    assert mg.draw(kernel, limit=None).dot.startswith("digraph")


@pytest.mark.parametrize(("name", "form"), [("f", "batch"), ("f", "floats"), ("g", "batch")])
@settings(max_examples=20)  # Graphviz takes a process for each
@given(case=cases(max_steps=5))
def test_any_kernel_is_rendered(name, form, case):
    f = case.function([mg.Value(x) for x in case.parameters], name)
    kernel = compile(f, batch=form == "batch").kernel(*(x if form == "batch" else x[0] for x in case.batch))
    if form != "batch":
        formed(kernel, form)
    assert mg.draw(kernel, limit=None).svg.startswith("<svg")


def test_what_is_read_of_an_array_in_parts_is_shown():
    x = [0.1 * k for k in range(300)]
    neighbours = drawn(lambda x: mg.total([a * b for a, b in pairwise(x)]), x, batch=False)
    assert {
        ("x[0:299] 299", "x[0:299]: an argument of the function; shape 299 (299 of 300)"),
        ("x[1:300] 299", "x[1:300]: an argument of the function; shape 299 (299 of 300)"),
    } <= set(boxes(neighbours).values())
    odd = drawn(lambda x: mg.total([mg.tanh(mg.exp(a) - x[0]) for a in x] + [mg.exp(a) for a in x[::2]]), [x])
    assert "150 of 300" in all_text(odd)
    turned = drawn(
        lambda x: mg.total([a * b for a, b in zip(map(mg.exp, x), map(mg.sin, x[9:] + x[:9]), strict=True)]), [x]
    )
    assert "rearranged" in all_text(turned)


def test_each_argument_has_its_gradient_if_there_are_no_parameters():
    picture = drawn(lambda price, tax: price * tax, [1.0], [2.0], reduce=None)
    assert {"× output batch", "gradient by tax price batch", "gradient by price tax batch"} == set(words(picture))
    named_alike = drawn(lambda output: mg.sin(output), [1.0], reduce=None)
    assert "2 nodes → 2 statements (1 forward, 1 backward)" in all_text(named_alike)
    assert "cos gradient by output batch" in words(named_alike)


@pytest.mark.parametrize(
    ("f", "formula"),
    [
        (lambda a, b: a - mg.exp(b), "a − b output"),
        (lambda a, b: a + mg.exp(b), "+ output"),
        (lambda a, b: 3.0 - a * b, "3 − output"),
        (lambda a, b: a * b / 4.0, "÷ 4 output"),
        (lambda a, b: mg.maximum(a * b, 0.25), "max(a, 0.25) output"),
        (lambda a, b: mg.where(a * b, a, 0.0), "where(a, b, 0) output"),
        (lambda a, b: -(a * b), "− output"),
    ],
)
def test_a_statement_shows_the_numbers_in_it_and_which_operand_is_which(f, formula):
    assert formula in words(drawn(f, 1.0, 2.0, batch=False))


def test_plain_floats_are_drawn_without_shapes():
    picture = drawn(lambda x, y: mg.sin(x) * y, 1.0, 2.0, batch=False)
    assert "on plain floats" in all_text(picture)[0]
    assert {"x", "y", "sin gradient by y", "× output"} <= set(words(picture))


def test_several_outputs_and_numbers_that_do_not_change_are_marked():
    picture = drawn(lambda x: [mg.sin(x), 3.0], [1.0])
    assert "scatter(a, 3) outputs 2" in words(picture)
    assert any("seed[0]" in text for text in words(picture))
    several = drawn(lambda x: [*map(mg.sin, x), x[0] * x[1], *map(mg.exp, x)], [[1.0] * 4], reduce="sum")
    assert {"seed[0:4] 4", "seed[4] × batch", "seed[5:9] 4"} <= {*words(several)}
    picture = drawn(lambda x: [mg.sin(x), 3.0], 1.0, batch=False)
    assert {"output 1 3"} <= set(words(picture))
    assert any("output 0" in text for text in words(picture))


@pytest.mark.parametrize("label", ["<b>", "{|}", '"]>', "back\\slash\\N", "가중치", "&amp;"])
def test_no_label_breaks_the_picture_of_a_kernel(label):
    w = [mg.Value(1.0, label), mg.Value(2.0, "other")]
    picture = drawn(lambda x: w[0] * x + w[1], [1.0])
    assert any(text.startswith(label) for text in words(picture))


def test_korean_names_fit_their_boxes():
    label = "사과의개수와값"
    w = mg.Value(2.0, label)
    svg = ElementTree.fromstring(drawn(lambda x: w * x, [1.0]).svg)
    box = next(g for g in svg.iter(f"{SVG}g") if g.get("class", "").endswith("parameter"))
    xs = [float(x) for x in re.findall(r"(-?[\d.]+),", next(box.iter(f"{SVG}path")).get("d"))]
    name = next(text for text in box.iter(f"{SVG}text") if text.text == label)
    assert min(xs) < float(name.get("x"))
    assert float(name.get("x")) + len(label) * float(name.get("font-size")) <= max(xs)


def test_a_kernel_is_dark_on_dark_paper_and_goes_where_it_is_told():
    kernel = layer().kernel(np.ones((2, 3)))
    dark = mg.draw(kernel, theme="dark", direction="LR").dot
    assert "rankdir=LR" in dark
    assert DARK["paper"] in dark
    assert LIGHT["paper"] not in dark
    assert "rankdir=TB" in mg.draw(kernel).dot
    assert mg.draw(kernel).png.startswith(b"\x89PNG")


def test_a_compiled_function_is_drawn_as_its_only_kernel():
    f = layer()
    with pytest.raises(ValueError, match=r"no kernel so far.*<lambda>\.kernel\("):
        mg.draw(f)
    f(np.ones((2, 3)))
    assert mg.draw(f).dot == mg.draw(f.kernel(np.ones((5, 3)))).dot
    f = compile(lambda x: mg.total(x))
    f.kernel([[1.0]]), f.kernel([[1.0, 2.0]])
    with pytest.raises(ValueError, match="2 kernels so far"):
        mg.draw(f)


def test_a_kernel_without_arrays_or_with_too_many_boxes_says_what_to_do():
    def steps(x):
        for _ in range(120):
            x = mg.sin(x) * 1.1
        return x

    kernel = compile(steps).kernel([1.0])
    with pytest.raises(ValueError, match=r"limit=200.*limit=None"):
        mg.draw(kernel)
    assert len(words(mg.draw(kernel, limit=None))) > 200
    loop = compile(steps, batch=False).kernel(1.0)
    loop.long = 0
    with pytest.raises(ValueError, match=r"read kernel\.source"):
        mg.draw(loop)
