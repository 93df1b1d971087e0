"""Graphs are copied and pickled whole: numbers, gradients, labels, operations, and what is shared."""

import copy
import pickle
import sys
import types

import pytest

import microgrid as mg
from microgrid import Value

module_level = mg.Op("module_level", forward=lambda x: 2 * x, partials=(2.0,))


def graph():
    x, w = Value(2.0, label="x"), Value(-3.0, label="w")
    h = x * w
    y = mg.total([h, h.tanh(), x**3, 2 * mg.leaky_relu(h)])
    y.backward()
    return [x, w, h, y]


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda values: pickle.loads(pickle.dumps(values))])
def test_values_stored_together_keep_what_they_share(twin_of):
    originals = graph()
    twins = twin_of(originals)
    x, w, h, y = twins
    assert h.parents == (x, w)
    assert y.parents[0] is h
    assert [(v.data, v.grad, v.label, v.op) for v in twins] == [(v.data, v.grad, v.label, v.op) for v in originals]
    assert not set(mg.topological_order(*twins)) & set(mg.topological_order(*originals))
    y.backward()
    assert x.grad == 2 * originals[0].grad


def test_a_shallow_copy_is_a_second_node_over_the_same_parents():
    x, w, h, _ = graph()
    twin = copy.copy(h)
    assert twin is not h
    assert twin.parents == (x, w)


def test_a_pickle_keeps_the_line_but_not_the_module_of_a_node():
    with mg.record_lines():
        y = Value(1.0) * 2
    y.origin.module = object()
    twin = pickle.loads(pickle.dumps(y))
    assert (twin.origin.line, twin.origin.module) == (y.origin.line, None)


def test_rows_keep_their_identity_in_a_pickle():
    for op in [*mg.ops.rows(), mg.ops.LEAF, mg.ops.CONSTANT, module_level]:
        assert pickle.loads(pickle.dumps(op)) is op


@pytest.mark.parametrize("module", ["a_module", "microgrid_of_mine", "z_module"])
def test_a_row_is_found_again_in_a_module_of_any_name(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
    forward = lambda x: x  # noqa: E731 - it must be of the other module
    forward.__module__ = module
    sys.modules[module].row = op = mg.Op("row", forward, (1.0,))
    assert pickle.loads(pickle.dumps(op)) is op


def test_a_local_operation_cannot_be_pickled_and_the_error_says_what_to_do():
    local = mg.Op("local", forward=lambda x: x, partials=(1.0,))
    x = Value(1.0)
    with pytest.raises(pickle.PicklingError, match="assign it at the top level of a module under that name"):
        pickle.dumps(local(x) + x)
    h = x * 2
    y = h * h
    assert pickle.loads(pickle.dumps(y)).parents[0].parents[0].data == 1.0


def test_a_pickle_of_an_operation_that_is_gone_says_so(monkeypatch):
    stored = pickle.dumps(module_level(Value(1.0)))
    monkeypatch.delattr(f"{__name__}.module_level")
    with pytest.raises(LookupError, match="uses the operation 'module_level'"):
        pickle.loads(stored)


class Tagged(Value):
    """A Value with an attribute of its own, in a slot, and others in its dictionary."""

    __slots__ = ("__dict__", "tag")

    def __init__(self, data, tag="t"):
        super().__init__(data)
        self.tag = tag


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_subclass_keeps_its_attributes_and_its_slots(again):
    x = Tagged(2.0, "mine")
    x.note, x.label = ["kept"], "x"
    new = again(x)
    assert (type(new), new.data, new.tag, new.note, new.label) == (Tagged, 2.0, "mine", ["kept"], "x")
    y = again(x * x)
    assert [parent.tag for parent in y.parents] == ["mine", "mine"]
