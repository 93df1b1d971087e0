"""What is used dies by reference counts: no entry point leaves a cycle that only the garbage collector finds."""

import copy
import gc
import pickle
from unittest import mock

import numpy as np
import pytest

import microgrid as mg
from microgrid.compiler.targets import python
from microgrid.nn import Affine, Dropout, Module, Sequential, Tanh

X = np.random.default_rng(0).normal(size=(20, 2))
Y = (X[:, 0] > 0).astype(int)


def model():
    return Sequential(Affine(2, 3, seed=0), Tanh(), Dropout(0.2, seed=1), Affine(3, 2, seed=2))


def graph():
    x = mg.Value(0.5, "x")
    return mg.tanh(x * 2.0) + mg.exp(x)


class Holder(Module):
    def __init__(self):
        self.scale, self.w = 2.0, mg.Value(3.0)

    def forward(self, x):
        return self.scale * self.w * x

    @mg.compile
    def loss(self, x):
        return self(x)


def compiled_call(reduce):
    net = model()
    f = mg.compile(lambda x: mg.total(net(x)), reduce=reduce)
    result = f(X)
    mg.total(result if reduce is None else [result]).backward()
    net.eval()
    f(X)


def compiled_kernel(**options):
    net = model()
    kernel = mg.compile(net, **options).kernel(X)
    factors = np.ones((20, 3))
    kernel.value_and_grad(kernel.read(), X, factors, by="both")
    kernel.bind(kernel.read(), kernel.read())(X, factors)


def compiled_loop():
    w = mg.Value(0.1)

    def f(x):
        for _ in range(3000):
            x = x + 0.01 * mg.sin(w * x)
        return x

    mg.compile(f, batch=False)(1.0).backward()


def compiled_in_parts():
    with mock.patch.object(python, "LINES", 3):
        for options in ({}, {"batch": False}):
            f = mg.compile(lambda x: mg.sin(mg.exp(x[0]) * mg.tanh(x[1] * W)) * mg.cos(mg.sqrt(x[0])), **options)
            x = X if not options else X[0]
            f(x).backward()
            assert "part1(" in f.kernel(x).source


def refused():
    w = mg.Value(1.0)
    for f in (lambda x: x[0] * w.data, lambda x: x[0] if x[0] > 0 else -x[0], lambda x: np.random.normal() * x[0]):
        with pytest.raises(mg.TraceError):
            mg.compile(f)(X)


def fitted(**options):
    net = model()
    mg.fit(net, X, Y, epochs=2, seed=0, validation=(X, Y), quiet=True, after_epoch=lambda _: net.eval(), **options)


def method():
    holder = Holder()
    holder.loss([1.0]).backward()
    holder.scale = 5.0
    holder.loss([1.0]).backward()


def anomalous():
    with mg.detect_anomaly(), pytest.raises(mg.AnomalyError):
        mg.log(mg.Value(0.0))


ENTRY_POINTS = {
    "compile a graph": lambda: mg.compile(graph() * mg.Value(2.0)).value_and_grad([1.0, 2.0]),
    "compile and call, mean": lambda: compiled_call("mean"),
    "compile and call, each": lambda: compiled_call(None),
    "a kernel": lambda: compiled_kernel(reduce=None),
    "a loop": compiled_loop,
    "a program in parts": compiled_in_parts,
    "a refusal": refused,
    "a compiled method": method,
    "second derivatives of a call": lambda: mg.gradient_graph(mg.compile(graph_of)(X[:, 0]), [W]),
    "fit, compiled": lambda: fitted(compile=True),
    "fit, eager": lambda: fitted(compile=False),
    "fit, refused": lambda: fitted(loss=lambda o, t: mg.losses.cross_entropy(o, t) if t else o[0] * o[0]),
    "evaluate": lambda: mg.evaluate(model(), X, Y),
    "backward": lambda: graph().backward(),
    "grad": lambda: mg.grad(lambda x: mg.sin(x) * W)(2.0),
    "jacobian and hessian": lambda: (
        mg.jacobian(lambda v: [v[0] * v[1], v[1]])([1.0, 2.0]),
        mg.hessian(lambda v: v[0] ** v[1])([1.0, 2.0]),
    ),
    "jvp and hvp": lambda: (mg.jvp(mg.sin, 1.0, 2.0), mg.hvp(lambda v: v[0] ** 3 * v[1], [1.0, 2.0], [1.0, 0.0])),
    "check": lambda: str(mg.check(lambda x: mg.tanh(x) * x, 0.5)),
    "check a model": lambda: mg.check(lambda: mg.total(NET([0.5, 1.0])), NET, sample=3),
    "check an operation": lambda: mg.check_op(mg.Op("double", lambda x: 2.0 * x, (2.0,))),
    "draw": lambda: mg.draw(graph()).dot,
    "draw a model": lambda: mg.draw(model()).dot,
    "explore": lambda: str(mg.explore(graph()))[:10],
    "copy and pickle": lambda: (copy.deepcopy(graph()), pickle.loads(pickle.dumps(graph()))),
    "an anomaly": anomalous,
    "save and load": lambda: model().load_state_dict(model().state_dict()),
}

W = mg.Value(0.5)
NET = Sequential(Affine(2, 2, seed=0), Tanh())


def graph_of(x):
    return mg.sin(W * x)


@pytest.mark.parametrize("use", ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_nothing_is_left_for_the_garbage_collector(use):
    use()  # what is loaded or cached once stays
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        use()
        gc.collect()
        left = [repr(thing)[:80] for thing in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []
