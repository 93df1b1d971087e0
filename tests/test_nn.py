"""Neurons, layers and networks: micrograd's numbers, names for every parameter, files that lose nothing."""

import copy
import functools
import gc
import json
import math
import os
import pickle
import random
import statistics
import struct
import threading
import weakref

import micrograd.nn
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interrupting import interrupted

from microgrid import nn, ops
from microgrid.calls import makers
from microgrid.engine import Value, topological_order
from microgrid.nn import (
    MLP,
    Affine,
    Dropout,
    Layer,
    Module,
    Neuron,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)
from microgrid.recording import detect_anomaly, no_grad, record_lines


def numbers(module):
    return [p.data for p in module.parameters()]


# -- micrograd ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda nn: nn.MLP(2, [16, 16, 1]),
        lambda nn: nn.MLP(3, [2]),
        lambda nn: nn.Layer(2, 3),
        lambda nn: nn.Layer(1, 1, nonlin=False),
        lambda nn: nn.Neuron(4),
        lambda nn: nn.Neuron(1, nonlin=False),
    ],
)
def test_the_same_seed_gives_micrograds_numbers_names_and_gradients(make):
    results = []
    for library in (nn, micrograd.nn):
        random.seed(1337)
        model = make(library)
        first = model
        while not hasattr(first, "w"):
            first = (first.layers if hasattr(first, "layers") else first.neurons)[0]
        outputs = model([0.5, -2.0, 1.5, 3.0][: len(first.w)])
        bare = not isinstance(outputs, list)
        total = outputs if bare else sum(outputs)
        total.backward()
        parameters = model.parameters()
        results.append(
            (repr(model), bare, total.data, numbers(model), first.b.data, first.nonlin, [p.grad for p in parameters])
        )
    (*ours, gradients), (*theirs, expected) = results
    assert ours == theirs
    assert gradients == pytest.approx(expected, rel=1e-12)


def test_a_neuron_adds_its_products_in_one_node():
    neuron = Neuron(3, nonlin=False, seed=0)
    y = neuron([1.0, 2.0, 3.0])
    assert y.op is ops.sum_of(4)
    assert y.parents[0] is neuron.b
    assert [p.label for p in neuron.parameters()] == ["w0", "w1", "w2", "b"]


# -- drawing the weights ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("init", "deviation"),
    [("uniform", math.sqrt(1 / 3)), ("he", math.sqrt(2 / 50)), ("xavier", math.sqrt(1 / 50)), (0.01, 0.01), (0, 0.0)],
)
def test_weights_are_drawn_with_the_deviation_of_their_initialisation_and_biases_are_zero(init, deviation):
    layer = Layer(50, 60, init=init, seed=3)
    weights = [w.data for neuron in layer.neurons for w in neuron.w]
    assert statistics.fmean(weights) == pytest.approx(0.0, abs=0.05 * deviation)
    assert statistics.pstdev(weights) == pytest.approx(deviation, rel=0.05)
    assert {neuron.b.data for neuron in layer.neurons} == {0.0}


def test_affine_is_linear_and_he_initialised():
    assert numbers(Affine(3, 4, seed=5)) == numbers(Layer(3, 4, nonlin=False, init="he", seed=5))
    assert not Affine(3, 4).neurons[0].nonlin
    assert repr(Affine(3, 4)) == "Affine(3, 4)"


@pytest.mark.parametrize("make", [lambda s: Neuron(3, seed=s), lambda s: MLP(2, [3, 2], init="he", seed=s)])
def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(make):
    before = random.getstate()
    assert numbers(make(7)) == numbers(make(7)) == numbers(make(random.Random(7)))
    assert numbers(make(7)) != numbers(make(8))
    assert len(set(numbers(make(7)))) == len([x for x in numbers(make(7)) if x]) + 1, "weights differ, biases are 0"
    assert random.getstate() == before


# -- composing ----------------------------------------------------------------------------------------


def test_modules_compose_and_one_output_is_bare():
    network = Sequential(
        Affine(2, 3, seed=0), Tanh(), Dropout(0.5), Affine(3, 1, seed=1), Sigmoid(), Layer(1, 2), abs_all
    )
    network.eval()
    outputs = network([1.0, 2.0])
    assert [type(y) for y in outputs] == [Value, Value]
    assert isinstance(Sequential(Affine(2, 1), ReLU())([1.0, 2.0]), Value)
    assert repr(Sequential(Affine(2, 1), ReLU(), Tanh(), Dropout(0.25), Softmax())) == (
        "Sequential(Affine(2, 1), ReLU(), Tanh(), Dropout(0.25), Softmax())"
    )


def abs_all(x):
    return [abs(v) for v in x]


@pytest.mark.parametrize(
    ("module", "function"), [(ReLU(), ops.relu), (Sigmoid(), ops.sigmoid), (Tanh(), ops.tanh)], ids=repr
)
def test_an_activation_works_on_each_input_and_on_a_bare_one(module, function):
    assert [y.data for y in module([Value(-1.0), Value(2.0)])] == [function(-1.0), function(2.0)]
    assert module(Value(0.5)).data == function(0.5)
    assert module.parameters() == []


def test_softmax_gives_probabilities():
    probabilities = Softmax()([Value(1000.0), Value(1000.0 + math.log(3.0))])
    assert [p.data for p in probabilities] == pytest.approx([0.25, 0.75], rel=1e-12)


@pytest.mark.parametrize("x", [(1.0, 2.0), [1, True], iter([1.0, 2.0]), [Value(1.0), 2.0], {1.0: "a", 2.0: "b"}])
def test_a_layer_takes_any_sequence_of_numbers_and_values(x):
    assert len(Layer(2, 3)(x)) == 3


def test_a_layer_takes_a_row_of_an_array_and_shares_its_constants_among_the_neurons():
    import numpy as np

    layer = Layer(2, 3, seed=0)
    outputs = layer(np.array([1.0, 2.0]))
    assert [y.data for y in outputs] == [y.data for y in layer([1.0, 2.0])]
    constants = [node for node in topological_order(*outputs) if node.op is ops.CONSTANT]
    assert len(constants) == 2


# -- parameters ---------------------------------------------------------------------------------------


class Custom(Module):
    def __init__(self):
        self.scale = Value(2.0)
        self.table = {"a": [Affine(1, 1, seed=0)], "b": (Value(3.0), "text")}
        self.again = self.scale
        self.me = self
        self.seen = self.scale * 2.0
        self.constant = self.seen.parents[1]
        self._hidden = Value(4.0)


def test_parameters_are_the_leaves_in_attributes_lists_and_dicts_each_once_with_a_dotted_name():
    module = Custom()
    assert [name for name, _ in module.named_parameters()] == [
        "scale",
        "table.a.0.neurons.0.w.0",
        "table.a.0.neurons.0.b",
        "table.b.0",
    ]


def test_a_class_in_micrograds_style_lists_its_own_parameters():
    class Line(Module):
        def __init__(self):
            self._w = [Value(2.0)]

        def __call__(self, x):
            return self._w[0] * x

        def parameters(self):
            return self._w

    line = Line()
    line(3.0).backward()
    assert line.parameters()[0].grad == 3.0
    line.zero_grad()
    assert line.parameters()[0].grad == 0.0


def test_zero_grad_forgets_every_gradient():
    model = MLP(2, [3, 1], seed=0)
    model([1.0, 2.0]).backward()
    assert any(p.grad for p in model.parameters())
    model.zero_grad()
    assert [p.grad for p in model.parameters()] == [0.0] * 13


def test_a_module_is_copied_and_pickled_with_its_parameters():
    model = Sequential(Affine(2, 2, seed=0), Dropout(0.5), Dropout(0.5, seed=1))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.state_dict() == model.state_dict()
        assert not set(other.parameters()) & set(model.parameters())


# -- dropout ------------------------------------------------------------------------------------------


def test_dropout_drops_in_training_only_and_keeps_the_mean():
    x = [Value(3.0) for _ in range(4000)]
    dropout = Dropout(0.25, seed=0)
    y = dropout(x)
    assert {v.data for v in y} == {0.0, 4.0}
    assert statistics.fmean(v.data for v in y) == pytest.approx(3.0, rel=0.05)
    sum(y).backward()
    assert [v.grad for v in x] == [v.data / 3.0 for v in y]
    assert dropout.eval()(x) is x
    assert dropout.train()(x) is not x
    assert Dropout(0.0)(x) is x
    assert Dropout(0.5, seed=0)(Value(1.0)).data in (0.0, 2.0)


def test_dropout_repeats_itself_with_a_seed_and_draws_globally_without():
    ones = [1.0] * 50
    assert Dropout(seed=4)(ones) == Dropout(seed=4)(ones) != Dropout(seed=5)(ones)
    random.seed(1)
    first = Dropout()(ones)
    random.seed(1)
    assert Dropout()(ones) == first


def test_the_mode_reaches_the_modules_within():
    model = Sequential(Affine(1, 1), Sequential(Dropout()))
    assert model.eval() is model
    assert not model.modules[1].modules[0].training
    model.train()
    assert model.modules[1].modules[0].training


# -- state and files ----------------------------------------------------------------------------------

exact = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)


def bits(x):
    return "nan" if math.isnan(x) else struct.pack("<d", x)


@given(st.lists(exact, min_size=3, max_size=3))
def test_a_file_brings_back_the_same_bits(tmp_path_factory, numbers_):
    path = tmp_path_factory.getbasetemp() / "bits.json"
    model, other = Neuron(2), Neuron(2)
    for p, x in zip(model.parameters(), numbers_, strict=True):
        p.data = x
    model.save(path)
    assert other.load(path) is other
    assert list(map(bits, numbers(other))) == list(map(bits, numbers_))
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_state_dict_moves_parameters_to_another_model():
    a, b = MLP(2, [3, 1], seed=0), MLP(2, [3, 1], seed=1)
    assert a.state_dict()["layers.1.neurons.0.w.2"] == a.layers[1].neurons[0].w[2].data
    assert b.load_state_dict(a.state_dict()) is b
    assert numbers(b) == numbers(a)


def test_a_state_dict_is_loaded_whole_or_not_at_all_if_it_is_interrupted():
    model, other = Neuron(3, seed=0), Neuron(3, seed=1)
    at, before = 1, model.state_dict()
    while interrupted(functools.partial(model.load_state_dict, other.state_dict()), at):
        assert model.state_dict() in (before, other.state_dict())
        model, at = Neuron(3, seed=0), at + 1
    assert at > 30


GOOD = {"w.0": 1.0, "w.1": 2.0, "b": 3.0}


@pytest.mark.parametrize(
    ("state", "error", "says"),
    [
        ({"w.0": 1.0, "w.1": 2.0}, ValueError, ["Neuron", "expected 3, given 2", "1 missing: b", "same arguments"]),
        ({**GOOD, "w.2": 1.0}, ValueError, ["expected 3, given 4", "1 not in the model: w.2"]),
        ({f"x.{i}": 0.0 for i in range(9)}, ValueError, ["3 missing", "9 not in the model: x.0, x.1, x.2, …"]),
        ({**GOOD, "w.1": "2"}, TypeError, ["parameter w.1", "expected one real number", "'2'", "unchanged"]),
        ({**GOOD, "b": None}, TypeError, ["parameter b", "None"]),
        ({**GOOD, "b": [1.0]}, TypeError, ["parameter b", "[1.0]"]),
        ({**GOOD, "b": True}, TypeError, ["parameter b", "True"]),
    ],
)
def test_a_state_that_does_not_fit_says_what_differs_and_changes_nothing(tmp_path, state, error, says):
    neuron = Neuron(2, seed=0)
    before = numbers(neuron)
    path = tmp_path / "neuron.json"
    path.write_text(json.dumps({"format": "microgrid parameters 1", "parameters": state}))
    with pytest.raises(error) as in_memory:
        neuron.load_state_dict(state)
    with pytest.raises(ValueError, match=r"neuron\.json") as in_file:
        neuron.load(path)
    for part in says:
        assert part in str(in_memory.value)
        assert part in str(in_file.value)
    assert numbers(neuron) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"{}",
        b'{"format": "microgrid parameters 1"}',
        b'{"format": "microgrid parameters 1", "parameters": [1, 2]}',
        b'{"format": "of another program", "parameters": {"w.0": 1, "w.1": 2, "b": 3}}',
        b"[" * 100_000,
        b"[" * 9_000,
        b'{"a":' * 2_000,
        b'{"format": "microgrid parameters 1", "parameters": {"w.0": ' + b"1" * 5_000 + b', "w.1": 2, "b": 3}}',
        b'{"format": "microgrid parameters 1", "parameters": {"w.0": 1, "w.1": 2, "b": 3}}' + b" " * 100_000,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_a_file_of_another_kind_is_named_and_changes_nothing(tmp_path, content):
    neuron = Neuron(2, seed=0)
    before = numbers(neuron)
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"wrong\.json.*written by save\(\).*unchanged") as raised:
        neuron.load(path)
    assert len(str(raised.value)) < 1000 + len(str(path))
    assert numbers(neuron) == before


def test_a_file_without_end_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "endless.json"
    with open(path, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"endless\.json: .* longer than a file for the 3 parameters of this Neuron"):
        Neuron(2).load(path)


def test_names_in_other_letters_and_files_that_another_program_indents_are_loaded(tmp_path):
    class Named(Module):
        def __init__(self):
            self.weights = {"가중치" * 500 + str(i): Value(float(i)) for i in range(3)}

    path, model = tmp_path / "model.json", Named()
    model.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=50))
    for parameter in model.parameters():
        parameter.data = 9.0
    assert numbers(model.load(path)) == [0.0, 1.0, 2.0]


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path):
    neuron = Neuron(1)
    with pytest.raises(FileNotFoundError, match=r"cannot read the model.*save\(\).*missing\.json"):
        neuron.load(tmp_path / "missing.json")
    with pytest.raises(IsADirectoryError, match="cannot read the model"):
        neuron.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"cannot write .*nowhere.*a folder that exists"):
        neuron.save(tmp_path / "nowhere" / "n.json")
    with pytest.raises(IsADirectoryError, match=r"cannot write .*nothing was changed"):
        neuron.save(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"cannot write .*nothing was changed"):
        neuron.save(tmp_path / "file" / "n.json")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_an_interrupted_save_leaves_the_file_that_was_there(tmp_path, monkeypatch, step, failure):
    path = tmp_path / "model.json"
    first, second = Neuron(2, seed=0), Neuron(2, seed=1)
    first.save(path)

    def fail(*arguments):
        raise failure

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(failure)):
        second.save(path)
    assert numbers(Neuron(2).load(path)) == numbers(first)
    assert os.listdir(tmp_path) == ["model.json"]
    monkeypatch.undo()
    second.save(path)
    assert numbers(Neuron(2).load(path)) == numbers(second)


def test_saving_through_a_link_replaces_the_file_that_it_leads_to(tmp_path):
    (tmp_path / "store").mkdir()
    link = tmp_path / "model.json"
    link.symlink_to(tmp_path / "store" / "model.json")
    Neuron(1).save(link)
    assert link.is_symlink()
    assert (tmp_path / "store" / "model.json").is_file()


# -- wrong input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: Layer(2, 3)([1.0, 2.0, 3.0]), ValueError, ["Layer(2, 3) takes 2 input(s), got 3", "[1.0, 2.0, 3.0]"]),
        (lambda: Neuron(2)([1.0, 2.0, 3.0]), ValueError, ["Neuron(2) takes 2 input(s), got 3"]),
        (lambda: Neuron(2)((1.0,)), ValueError, ["takes 2 input(s), got 1"]),
        (lambda: MLP(2, [16, 1])([]), ValueError, ["takes 2 input(s), got 0", "one sample"]),
        (lambda: Affine(64, 10)(1.0), ValueError, ["Affine(64, 10) takes 64 input(s), got 1"]),
        (lambda: Layer(2, 1)([1.0, "a"]), TypeError, ["expected one real number", "'a'"]),
        (lambda: Layer(2, 1)([[1.0], [2.0]]), TypeError, ["expected one real number", "[1.0]"]),
        (lambda: Neuron(1)(None), TypeError, ["expected one real number", "None"]),
        (lambda: Neuron(0), ValueError, ["number of inputs", "at least 1", "0"]),
        (lambda: Neuron(2.5), TypeError, ["number of inputs", "whole number", "2.5"]),
        (lambda: Layer(2, 0), ValueError, ["number of outputs", "at least 1"]),
        (lambda: Layer(2, "3"), TypeError, ["number of outputs", "'3'"]),
        (lambda: MLP(2, []), ValueError, ["nouts is empty", "MLP(2, [16, 1])"]),
        (lambda: MLP(2, 16), TypeError, ["nouts must be a list", "16"]),
        (lambda: MLP(2, "16"), TypeError, ["nouts must be a list", "'16'"]),
        (lambda: MLP(2, [3, -1]), ValueError, ["at least 1", "-1"]),
        (lambda: Layer(2, 1, init="xaver"), ValueError, ["'uniform', 'he', 'xavier'", "'xaver'"]),
        (lambda: Layer(2, 1, init=-0.1), ValueError, ["standard deviation", "0 or more", "-0.1"]),
        (lambda: Layer(2, 1, init=math.nan), ValueError, ["finite", "nan"]),
        (lambda: Layer(2, 1, init=None), ValueError, ["standard deviation", "None"]),
        (lambda: Sequential(), ValueError, ["Sequential() is empty", "Affine"]),
        (lambda: Sequential([Affine(1, 1)]), TypeError, ["one by one", "[Affine(1, 1)]"]),
        (lambda: Sequential(ReLU), TypeError, ["one by one", "ReLU"]),
        (lambda: Dropout(1.0), ValueError, ["rate", "below 1", "1.0"]),
        (lambda: Dropout("half"), TypeError, ["expected one real number", "'half'"]),
        (lambda: Module()([1.0]), NotImplementedError, ["Module has no forward()", "define forward(self, x)"]),
        (lambda: Softmax()([]), ValueError, ["at least one number"]),
    ],
)
def test_wrong_input_is_an_error_that_names_it(wrong, error, says):
    with pytest.raises(error) as raised:
        wrong()
    for part in says:
        assert part in str(raised.value)


# -- who made a node ----------------------------------------------------------------------------------


class Twice(Module):
    """A module with nodes of its own between those of others."""

    def __init__(self):
        self.blocks = []
        self.blocks.append(Layer(2, 2, seed=0))
        self.last = Affine(2, 1, seed=1)

    def forward(self, x, *, factor=2.0):
        return self.last([v * factor for v in self.blocks[0](x)]), x


def paths(*outputs):
    order = topological_order(*outputs)
    return {node: call and call.path for node, call in makers(order).items()}


def test_each_node_of_a_network_knows_its_neuron_and_the_inputs_belong_to_nobody():
    model = MLP(2, [3, 2], seed=0)
    a = Value(1.5)
    x = [a * 2.0, Value(1.0)]
    outputs = model(x)
    owner = paths(*outputs)
    for i, layer in enumerate(model.layers):
        for j, neuron in enumerate(layer.neurons):
            assert {owner[p] for p in neuron.parameters()} == {f"MLP.layers.{i}.neurons.{j}"}
    assert owner[a] is owner[x[0]] is owner[x[1]] is None
    for j, y in enumerate(outputs):
        assert owner[y] == f"MLP.layers.1.neurons.{j}"
        call = y.origin.module
        assert (call.kind, call.name) == ("Neuron", f"neurons.{j}")
        assert (call.outer.kind, call.outer.name) == ("Layer", "layers.1")
        assert (call.outer.outer.name, call.outer.outer.outer) == ("MLP", None)
        assert call.outer.outer.inputs == tuple(x)
        assert len(call.inputs) == 3
        assert repr(call) == str(y.origin) == f"<call of MLP.layers.1.neurons.{j}, 3 input(s)>"
    assert set(owner.values()) == {None} | {
        f"MLP.layers.{i}.neurons.{j}" for i, j in [*zip([0] * 3, range(3), strict=True), (1, 0), (1, 1)]
    }


def test_nodes_between_modules_belong_to_the_module_that_called_them():
    module = Twice()
    x = [Value(1.0), Value(2.0)]
    y, _ = module(x, factor=3.0)
    owner = paths(y)
    tripled = [node for node in topological_order(y) if node.op is ops.mul and node.second.op is ops.CONSTANT]
    assert [owner[node] for node in tripled] == ["Twice", "Twice"]
    assert [owner[node.second] for node in tripled] == ["Twice", "Twice"]
    assert {owner[node.first] for node in tripled} == {"Twice.blocks.0.neurons.0", "Twice.blocks.0.neurons.1"}
    assert owner[y] == "Twice.last.neurons.0"
    assert [owner[v] for v in x] == [None, None]


def test_the_plain_numbers_of_a_layer_belong_to_the_layer():
    layer = Layer(2, 2, seed=0)
    owner = paths(*layer([1.0, 2.0]))
    assert [owner[node] for node in owner if node.op is ops.CONSTANT] == ["Layer", "Layer"]


def test_the_inside_of_a_softmax_belongs_to_it_and_a_dropout_at_rest_owns_nothing():
    model = Sequential(Affine(1, 2, seed=0), Dropout(), Softmax()).eval()
    x = Value(1.0)
    outputs = model([x])
    owner = paths(*outputs)
    insides = {ops.exp: "Sequential.modules.2", ops.div: "Sequential.modules.2", ops.maximum: "Sequential.modules.2"}
    for node, path in owner.items():
        if node.op in insides:
            assert path == insides[node.op]
    assert set(owner.values()) == {
        None,
        "Sequential.modules.0.neurons.0",
        "Sequential.modules.0.neurons.1",
        "Sequential.modules.2",
    }
    y = x * 2.0
    assert paths(Dropout().eval()(y)) == {y: None, x: None, y.second: None}


def test_two_samples_share_the_owner_of_a_parameter_and_two_modules_do_not():
    model = MLP(1, [2, 1], seed=0)
    owner = paths(model([1.0]) + model([2.0]))
    assert {owner[p] for p in model.layers[0].neurons[1].parameters()} == {"MLP.layers.0.neurons.1"}
    shared = Value(3.0)

    class Scale(Module):
        def __init__(self, w):
            self.w = w

        def forward(self, x):
            return self.w * x

    pair = Sequential(Scale(shared), Scale(shared))
    owner = paths(pair(Value(1.0)))
    assert owner[shared] == "Sequential"
    assert paths(Scale(shared)(1.0) * Neuron(1)([shared]))[shared] is None


def test_a_module_reached_through_another_is_named_by_the_whole_way():
    class Reaching(Module):
        def __init__(self):
            self.inner = Sequential(Affine(1, 1, seed=0))
            self._hidden = Tanh()

        def forward(self, x):
            return self._hidden(self.inner.modules[0](x))

    y = Reaching()([1.0])
    assert y.origin.module.path == "Reaching.Tanh"
    assert y.first.origin.module.path == "Reaching.inner.modules.0.neurons.0"


def test_a_recorded_line_stays_beside_the_module():
    neuron = Neuron(1, seed=0)
    with record_lines():
        y = neuron([1.0])
    assert y.origin.file == __file__
    assert "neuron([1.0])" in str(y.origin)
    assert y.origin.module.path == "Neuron"
    with detect_anomaly():
        z = neuron([2.0])
    assert z.origin.file == __file__


def test_leaves_keep_no_note_of_modules_that_passed_them_on():
    x = Value(1.0)
    assert Dropout().eval()([x]) == [x]
    assert x.origin is None
    with no_grad():
        assert Neuron(1)([x]).origin is None


class Remembering(Module):
    """The book's layers keep their output."""

    def __init__(self):
        self.inner = MLP(2, [2, 1], seed=0)

    def forward(self, x):
        self._out = self.inner(x)
        self.out = [self._out]
        return self._out


def test_graphs_and_modules_die_with_their_last_reference():
    gc.collect()
    gc.disable()
    try:
        module = Remembering()
        module([1.0, 2.0]).backward()
        y = module([1.0, 2.0])
        dead = [weakref.ref(module), weakref.ref(module.inner), weakref.ref(module.inner.layers[0].neurons[0])]
        del module
        assert [ref() for ref in dead] == [None, None, None]
        assert y.origin.module.path == "Remembering.inner.layers.1.neurons.0"
        del y
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_inputs_may_come_by_position_by_name_nested_or_not_at_all():
    class Pair(Module):
        def forward(self, *x, bias=1.0):
            return [a * b + bias for a, b in zip(*x, strict=True)] if x else Value(1.0) + bias

    a, b, bias = Value(1.0), [Value(2.0)], Value(3.0)
    a2 = a * 2.0
    (y,) = Pair()([a2], b, bias=bias)
    assert y.origin.module.inputs == (a2, *b, bias)
    assert {path for node, path in paths(y).items() if node in (a, a2, *b, bias)} == {None}
    assert Pair()().origin.module.inputs == ()


def test_a_failed_call_and_other_threads_do_not_disturb_the_names():
    bad, good = Sequential(Affine(2, 1), lambda x: 1 / 0), Neuron(1, seed=0)
    with pytest.raises(ZeroDivisionError):
        bad([1.0, 2.0])
    assert good([1.0]).origin.module.path == "Neuron"
    seen = []

    class Waiting(Module):
        def forward(self, x):
            thread = threading.Thread(target=lambda: seen.append(good([1.0]).origin.module.path))
            thread.start()
            thread.join()
            return good(x)

    assert Waiting()([1.0]).origin.module.path == "Waiting.Neuron"
    assert seen == ["Neuron"]
