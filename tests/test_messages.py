"""What is given by mistake is named where it is given, and what is meant clearly simply works."""

import inspect
import math
import re
import types

import matplotlib as mpl
import numpy as np
import pytest

import microgrid as mg
from microgrid import Value, data, losses, nn, ops, optim
from microgrid.ops import Op

X, Y = data.moons(8, seed=0)


def model():
    return nn.MLP(2, [2], seed=0)


def fit(**arguments):
    return mg.fit(**{"model": model(), "X": X, "y": Y, "epochs": 1, "quiet": True, "compile": False, **arguments})


def op(forward=lambda x: x, partial=1.0):
    return Op("mine", forward, (partial,))


def op_with(**fields):
    return Op("mine", lambda x: x, (1.0,), **fields)


def differentiated(partial):
    x = Value(2.0)
    op(partial=partial)(x * 3.0).backward()
    return x.grad


def after_assigning(name, wrong):
    x = Value(2.0, "x")
    y = x * 3.0
    setattr(x, name, wrong)
    y.backward()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ops.log(), r"log takes x, or x and a base; got 0 arguments: \(\)"),
        (lambda: ops.log(1.0, 2.0, 3.0), "log takes x, or x and a base; got 3 arguments"),
        (lambda: Op(None, math.sin, (1.0,)), "operation None: name must be text; got None"),
        (lambda: op_with(symbol=3), "operation 'mine': symbol must be text; got 3"),
        (lambda: op_with(doc=None), "operation 'mine': doc must be text; got None"),
        (lambda: op_with(kink=3), "operation 'mine': kink must be a function; got 3"),
        (lambda: op_with(expansion=3), "operation 'mine': expansion must be a function; got 3"),
        (lambda: op_with(domain=3), "operation 'mine': domain must be a tuple with one Interval .*; got 3"),
        (lambda: op_with(domain=((0.0, 1.0),)), r"domain must be a tuple with one Interval .*; got \(\(0.0, 1.0\),\)"),
        (lambda: mg.Interval("a", "a"), "expected one real number, got 'a'"),
        (lambda: mg.Interval(0.0, None), "expected one real number, got None"),
        (lambda: Value(1.0, label=3), "label must be text, and each number is a Value of its own; got 3"),
        (lambda: ops.maximum(), r"maximum takes one number or more, .* as maximum\(\*numbers\); got \(\)"),
        (lambda: ops.minimum(), r"minimum takes one number or more, .* as minimum\(\*numbers\); got \(\)"),
        (lambda: ops.maximum([1.0, Value(2.0)]), r"maximum takes one number or more, .*; got \(\[1.0, Value"),
        (lambda: ops.minimum("a"), "expected one real number, got 'a'"),
        (lambda: ops.tanh(*range(10_000)), r"tanh takes 1 argument\(s\); got 10000: \(0, 1, 2, .{50,80}$"),
        (lambda: fit(loss="mse"), r"loss must be a function of an output and a target, .*; got 'mse'"),
        (lambda: fit(loss=None), r"loss must be .*; got None"),
        (lambda: fit(loss=lambda output: output), r"loss must be a function of an output and a target.*too many"),
        (lambda: fit(optimizer=optim.SGD), r"such as Adam\(model.parameters\(\)\); got <class .*SGD'>"),
        (lambda: fit(optimizer="adam"), r"such as Adam\(model.parameters\(\)\); got 'adam'"),
        (lambda: fit(optimizer=0.1), "got 0.1"),
        (lambda: fit(validation=[X]), r"validation must be a pair of samples and targets, \(X, y\); got \["),
        (lambda: fit(validation=X), r"validation must be a pair .*; got array"),
        (lambda: fit(validation=(X, Y, Y)), "validation must be a pair"),
        (lambda: fit(validation=()), r"validation must be a pair .*; got \(\)"),
        (lambda: fit(validation=1), "validation must be a pair .*; got 1"),
        (lambda: fit(model=lambda x: x), r"fit\(\) trains a module, .*; got <function .*, which has no parameters\(\)"),
        (lambda: fit(model=nn.MLP), r"the model must be a module, .*; got <class .*MLP'>"),
        (lambda: fit(model=None), "the model must be .*; got None"),
        (lambda: fit(accuracy="yes"), "accuracy must be 'auto', None, or a function .*; got 'yes'"),
        (lambda: fit(accuracy=1), "accuracy must be .*; got 1"),
        (lambda: fit(after_epoch=1), "after_epoch must be a function of the history; got 1"),
        (lambda: fit(after_epoch=lambda: None), "after_epoch must be a function of the history; .*too many"),
        (lambda: fit(compile="yes"), "compile must be True, False or None; got 'yes'"),
        (lambda: fit(seed="a"), "seed must be a whole number, 0 or more, .*; got 'a'"),
        (lambda: data.moons(10, seed=1.5), "seed must be .*; got 1.5"),
        (lambda: data.moons(10, noise="a"), "got 'a'"),
        (lambda: data.digits(test="a"), "got 'a'"),
        (lambda: mg.evaluate(None, X, Y), "the model must be .*; got None"),
        (lambda: mg.evaluate(model(), X, Y, loss="mse"), "loss must be .*; got 'mse'"),
        (lambda: Value(1, 2), "label must be text, and each number is a Value of its own; got 2"),
        (lambda: Value(4.0, Value(1.0)), r"label must be text.*got Value.*are a tuple of Values"),
        (lambda: after_assigning("grad", None), r"the grad of Value\(data=2.0, .*got None.*set it to 0\.0"),
        (lambda: after_assigning("grad", "1"), "the grad of Value.*got '1'"),
        (lambda: op(lambda x: None)(Value(1.0)), "operation 'mine': its result must be one real number; got None"),
        (lambda: op(lambda x: None)(1.0), "operation 'mine': its result .* got None"),
        (lambda: op(lambda x: None)(1), "operation 'mine': its result .* got None"),
        (lambda: op(lambda x: [1.0])(Value(1.0)), r"operation 'mine': its result .* got \[1.0\] of type list"),
        (lambda: op(lambda x: 1j)(Value(1.0)), "operation 'mine': its result .* got 1j of type complex"),
        (lambda: op(lambda x: np.array([x]))(Value(1.0)), "operation 'mine': its result .* of type ndarray"),
        (lambda: differentiated(lambda y, x: None), "operation 'mine': its local derivative must be .*; got None"),
        (lambda: differentiated(lambda y, x: [1.0]), r"operation 'mine': its local derivative .* got \[1.0\]"),
        (lambda: differentiated(lambda y, x: np.array([1.0])), "operation 'mine': its local derivative .* ndarray"),
        (lambda: differentiated(lambda y, x: 1j), "operation 'mine': its local derivative .* got 1j"),
        (lambda: differentiated(lambda y, x: Value(1.0)), "operation 'mine': its local derivative .* got Value"),
        (
            lambda: differentiated(lambda x: 1.0),
            r"operation 'mine': a partial, called with \(y, \*xs\): .* 1 pos",
        ),
        (lambda: mg.grad(mg.grad(op(partial=lambda y, x: None)))(1.0), "operation 'mine': its local .* got None"),
        (lambda: mg.hessian(op(partial=lambda y, x: [x]))(1.0), r"operation 'mine': its local .* got \[Value"),
        (lambda: mg.jvp(op(partial=lambda y, x: None), 1.0, 1.0), "operation 'mine': its local .* got None"),
        (lambda: mg.hvp(op(partial=lambda x: 1.0), 1.0, 1.0), "operation 'mine': a partial, called with"),
        (lambda: mg.grad(1), r"a derivative is taken of a function, as in grad\(lambda x: x \* x\); got 1"),
        (lambda: mg.grad(Value(1.0)), r"got Value\(data=1.0, grad=0.0\)\. For the gradients of a Value call its back"),
        (lambda: mg.grad(math.sin, "a"), "argnums must be the position of an argument, from 0, .*; got 'a'"),
        (lambda: mg.grad(math.sin, 1.5), "argnums must be .*; got 1.5"),
        (lambda: mg.grad(math.sin, [0]), r"argnums must be .* or a tuple of positions; got \[0\]"),
        (lambda: mg.value_and_grad(None), "got None"),
        (lambda: mg.jacobian("f"), "got 'f'"),
        (lambda: mg.hessian(3), "got 3"),
        (lambda: mg.jvp(1, 2.0, 3.0), "got 1"),
        (lambda: mg.jvp(mg.sin, 2.0, "a"), "got 'a'"),
        (lambda: mg.hvp(mg.sin, 2.0, None), "got .* and None"),
        (lambda: mg.gradient_graph(1.0, []), "a graph is made of Values; got 1.0"),
        (lambda: mg.gradient_graph(Value(1.0), [1.0]), r"the inputs as a list of Values; got \[1.0\]"),
        (lambda: mg.gradient_graph(Value(1.0), Value(1.0)), "the inputs as a list of Values; got Value"),
        (lambda: mg.topological_order(None), "a graph is made of Values; got None"),
        (lambda: nn.Neuron(1).load_state_dict(None), "a state is a dict .*; got None"),
        (lambda: nn.Neuron(1).load_state_dict("ab"), "a state is a dict .*; got 'ab'"),
        (lambda: mg.total("ab"), "got 'ab'"),
        (lambda: mg.total(["a", "b"]), "got 'a'"),
        (lambda: mg.mean([1.0, "b"]), "got 'b'"),
        (lambda: mg.softmax(None), "got None"),
        (lambda: mg.logsumexp(["a"]), "got 'a'"),
        (lambda: mg.plot_boundary(None, X, Y), "plot_boundary.* got None"),
        (lambda: mg.plot_boundary(model(), 1.0, Y), "points as a list or an array; got 1.0"),
        (lambda: mg.plot_boundary(model(), X, "ab"), "classes as a list or an array; got 'ab'"),
        (lambda: mg.plot_boundary(model(), [["a", "b"]], [1]), "got 'a'"),
    ],
)
def test_a_wrong_type_is_an_error_that_names_what_was_given_and_what_was_expected(call, said):
    with pytest.raises(TypeError, match=re.compile(said, re.DOTALL)):
        call()


@pytest.mark.parametrize("template", ["{0} + {1}", "{x}", "{0", "{0.real}"])
def test_a_template_that_does_not_fit_its_operation_is_an_error_that_names_both(template):
    bent = Op("bent", lambda x: x, (1.0,), array=template)
    with pytest.raises(ValueError, match=rf"operation 'bent': its array '{re.escape(template)}' is not a template of"):
        ops.spell(bent, "array", "x")


def test_a_negative_seed_and_a_coarse_boundary_are_named():
    with pytest.raises(ValueError, match=r"seed must be a whole number, 0 or more, .*; got -1"):
        fit(seed=-1)
    with pytest.raises(ValueError, match="resolution must be a whole number, 2 or more; got 1"):
        mg.plot_boundary(model(), X, Y, resolution=1)


def test_a_wrong_gradient_leaves_the_others_as_they_were():
    x, w = Value(2.0), Value(3.0)
    (x * w).backward()
    with pytest.raises(TypeError, match=r"the grad of Value\(.*\) must be .* number; got None; .* to 0.0"):
        x.grad = None
    assert (x.grad, w.grad) == (3.0, 2.0)
    with pytest.raises(TypeError, match="mine"):
        op(partial=lambda y, x: None)(x * w).backward()
    assert (x.grad, w.grad) == (3.0, 2.0)


def test_whole_numbers_and_those_of_numpy_become_floats():
    x = Value(2.0)
    x.grad = 1
    y = op(lambda x: np.float64(x), lambda y, x: np.float64(3.0))(x)
    y.backward()
    assert [type(number) for number in (y.data, x.grad)] == [float, float]
    assert (y.data, x.grad) == (2.0, 4.0)
    x.grad = np.float32(1.0)
    optim.SGD([x], 1.0).step()
    assert type(x.data) is float
    assert type(op(lambda x: 1)(2.0)) is float
    for arity in (1, 2, 3):
        whole = Op("whole", lambda *xs: 7, (1.0,) * arity)
        assert type(whole(*[x] * arity).data) is float


@pytest.mark.parametrize("function", [mg.total, mg.mean, mg.logsumexp, lambda x: mg.softmax(x)[0] * x, mg.dot])
@pytest.mark.parametrize("x", [Value(2.5), 2.5])
def test_a_bare_number_is_a_list_of_one(function, x):
    result = function(x, 1.0) if function is mg.dot else function(x)
    assert getattr(result, "data", result) == 2.5
    assert type(result) is type(x)


class Frame:
    """What pandas and polars give: rows by ``to_numpy()``, names of columns by iteration."""

    def __init__(self, array):
        self._array = array

    def to_numpy(self):
        return self._array

    def __iter__(self):
        return iter(["x", "y"])


@pytest.mark.parametrize("classes", [Y, ["upper" if y else "lower" for y in Y]])
def test_a_boundary_of_a_data_frame_and_of_classes_with_names_is_drawn(classes):
    from matplotlib import pyplot

    with mpl.rc_context({"backend": "agg"}):
        figure = mg.plot_boundary(model(), Frame(X), classes, resolution=3)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == (["0", "1"] if classes is Y else ["lower", "upper"])
    assert sum(len(points.get_offsets()) for points in figure.axes[0].collections[-2:]) == len(X)
    pyplot.close(figure)


# -- every public function, with every wrong type in every place -----------------------------------------

WRONG = [None, "ab", b"ab", 1j, [], ["ab"], [None], {}, {"a": None}, object(), lambda: None, Value, math]

x, y = Value(2.0, "x"), Value(3.0, "y")

CALLS = {
    **{name: (op, [0.5] * op.arity) for name, op in ops.TABLE.items()},
    "total": (mg.total, [[x, 1.0]]),
    "mean": (mg.mean, [[x, 1.0]]),
    "prod": (mg.prod, [[x, 1.0]]),
    "dist": (mg.dist, [[x, 1.0], [1.0, 2.0]]),
    "degrees": (mg.degrees, [x]),
    "radians": (mg.radians, [x]),
    "pow": (mg.pow, [x, y]),
    "logsumexp": (mg.logsumexp, [[x, 1.0]]),
    "softmax": (mg.softmax, [[x, 1.0]]),
    "take": (mg.take, [[x, 1.0], 0]),
    "iterate": (
        lambda step, state, until, at_most: mg.iterate(step, state, until=until, at_most=at_most),
        [lambda x: x, 1.0, lambda x: x > 0.0, 3],
    ),
    "scan": (mg.scan, [lambda s, x: (s, x), 1.0, [x, 1.0]]),
    "take by a Value": (lambda values: mg.take(values, Value(0.0)), [[x, 1.0]]),
    "Embedding": (nn.Embedding, [3, 2]),
    "Embedding(token)": (nn.Embedding(3, 2), [1]),
    "dot": (mg.dot, [[x, 1.0], [2.0, y]]),
    "leaky_relu": (mg.leaky_relu, [x, 0.1]),
    "elu": (mg.elu, [x, 1.0]),
    "Value": (Value, [1.0, "x"]),
    "Value.data": (lambda number: setattr(Value(1.0), "data", number), [1.0]),
    "backward": (lambda gradient: (x * y).backward(gradient), [1.0]),
    "topological_order": (mg.topological_order, [x]),
    "why": (mg.why, [x * y, x]),
    "precision": (mg.precision, [x * y]),
    "gradient_graph": (mg.gradient_graph, [x * y, [x]]),
    "grad": (mg.grad, [mg.sin, 0]),
    "grad(f)": (lambda at: mg.grad(mg.sin)(at), [1.0]),
    "value_and_grad": (mg.value_and_grad, [mg.sin, 0]),
    "jacobian": (mg.jacobian, [mg.sin, 0]),
    "hessian": (mg.hessian, [mg.sin, 0]),
    "jvp": (mg.jvp, [mg.sin, 1.0, 1.0]),
    "hvp": (mg.hvp, [mg.sin, 1.0, 1.0]),
    "Interval": (mg.Interval, [0.0, 1.0]),
    "Op": (Op, ["mine", math.sin, (1.0,)]),
    "draw": (mg.draw, [x * y]),
    "explore": (mg.explore, [x * y]),
    "name": (mg.name, [{"x": x}]),
    "playground": (mg.playground, ["moons", [4, 4]]),
    **{
        f"playground {name}": (lambda given, name=name: mg.playground(**{name: given}), [good])
        for name, good in {"activation": "tanh", "learning_rate": 0.1, "batch_size": 5, "noise": 0.1, "seed": 0}.items()
    },
    "watch": (mg.watch, [model()]),
    "evaluate": (lambda *a: mg.evaluate(*a, compile=False), [model(), X, Y]),
    "fit": (lambda *a: mg.fit(*a, epochs=1, quiet=True, compile=False), [model(), X, Y]),
    "training_step": (mg.training_step, [losses.mean_squared_error, optim.SGD([Value(1.0)])]),
    **{
        f"fit {name}": (lambda given, name=name: fit(**{name: given}), [good])
        for name, good in {
            "loss": losses.cross_entropy,
            "optimizer": None,
            "epochs": 1,
            "batch_size": 4,
            "validation": (X, Y),
            "accuracy": None,
            "seed": 0,
            "after_epoch": None,
            "compile": False,
        }.items()
    },
    "plot_boundary": (mg.plot_boundary, [model(), X.tolist(), Y.tolist()]),
    **{
        kind.__name__: (kind, [[x, y], *[0.5] * (len(inspect.signature(kind).parameters) - 3)])
        for kind in (optim.SGD, optim.Momentum, optim.Nesterov, optim.RMSprop, optim.Adam, optim.AdamW, optim.AdaGrad)
    },
    "load_state_dict": (optim.SGD([Value(1.0)]).load_state_dict, [optim.SGD([Value(1.0)]).state_dict()]),
    "model.load_state_dict": (nn.Neuron(1).load_state_dict, [nn.Neuron(1).state_dict()]),
    "Neuron": (nn.Neuron, [2]),
    "Layer": (nn.Layer, [2, 3]),
    "MLP": (nn.MLP, [2, [3, 1]]),
    "MLP(x)": (model(), [[1.0, 2.0]]),
    "Sequential": (nn.Sequential, [nn.ReLU()]),
    "Dropout": (nn.Dropout, [0.5]),
    **{name: (getattr(losses, name), [[x], [1.0]]) for name in ("mean_squared_error", "sum_of_squares", "hinge")},
    "binary_cross_entropy": (losses.binary_cross_entropy, [[x], [1.0]]),
    "cross_entropy": (losses.cross_entropy, [[x, y], 1]),
    "moons": (data.moons, [10, 0.1, 0]),
    "spirals": (data.spirals, [10, 2, 0.1, 0]),
    **{make.__name__: (make, [10, 0.1, 0]) for make in (data.circles, data.xor, data.sine)},
    "minibatches": (data.minibatches, [X, Y, 4, 0]),
    "load_idx": (data.load_idx, ["nowhere"]),
}


def names_of(wrong):
    """What may stand in a message for a thing: itself, its type, what it holds or returns, or how much it holds."""
    items = [wrong]
    if isinstance(wrong, (str, bytes, list, dict)):
        items += [*wrong, *(wrong.values() if isinstance(wrong, dict) else [])]
    if isinstance(wrong, types.FunctionType):
        items += [None]
    names = [name for item in items for name in (repr(item)[:20], type(item).__name__)]
    counts = ["got", "given", "empty", "hold", "there are no"] * isinstance(wrong, (str, bytes, list, dict))
    return [*names, *counts, getattr(wrong, "__name__", str(wrong))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("function", "arguments", "place"),
    [
        pytest.param(function, arguments, place, id=f"{name}-{place}")
        for name, (function, arguments) in CALLS.items()
        for place in range(len(arguments))
    ],
)
def test_every_function_takes_what_is_given_or_names_it(function, arguments, place):
    for wrong in WRONG:
        given = [wrong if i == place else argument for i, argument in enumerate(arguments)]
        try:
            function(*given)
        except (TypeError, ValueError, FileNotFoundError) as error:
            said = str(error)
            assert any(name in said for name in names_of(wrong)), f"{wrong!r}: {said}"


def test_every_public_function_is_tried_with_wrong_types():
    tried = {name.partition(" ")[0] for name in CALLS} | {"abs", "compile", "check", "check_op"}
    blocks = {"no_grad", "enable_grad", "record_lines", "detect_anomaly"}  # they take nothing
    public = {name for name in mg.__all__ if callable(getattr(mg, name)) and not isinstance(getattr(mg, name), type)}
    assert {getattr(op, "name", name) for name in public - blocks for op in [getattr(mg, name)]} <= tried


@pytest.mark.parametrize("inputs", [[1.0, 2.0], [[1.0, 2.0, 3.0]]])
def test_one_sample_given_to_a_compiled_network_is_told_what_the_first_axis_is(inputs):
    with pytest.raises(ValueError, match=r"takes 2 input\(s\)") as caught:
        mg.compile(nn.MLP(2, [3, 1], seed=0))(inputs)
    shape = () if len(inputs) == 2 else (3,)
    (note,) = caught.value.__notes__
    assert f"one sample of inputs has the shape {shape}" in note
    assert "batch=False" in note
    assert math.isfinite(mg.compile(nn.MLP(2, [3, 1], seed=0), batch=False)([1.0, 2.0]).data)


def test_one_number_given_to_a_compiled_function_is_told_of_batches():
    with pytest.raises(ValueError, match=r"argument x .* got one number.* batch=False"):
        mg.compile(lambda x: x * x)(2.0)


def test_classes_of_a_network_of_one_output_are_told_of_the_loss_for_it():
    with pytest.raises(ValueError, match=r"index of one of 1 classes.*binary_cross_entropy"):
        losses.cross_entropy(Value(0.3), 1)
    with pytest.raises(ValueError, match=r"0 to 1; classes count from 0$"):
        losses.cross_entropy([Value(0.3), Value(0.1)], 2)
