import functools
import gc
import math
import pickle
import re
import subprocess
import sys
import threading
import weakref
from itertools import pairwise

import numpy as np
import pytest
from programs import FORMS, formed

import microgrid as mg
from microgrid.calculus import gradient_graph, hessian
from microgrid.compiler import Kernel, TraceError, compile
from microgrid.compiler.task import PULLBACK, VALUE, VJP, Task
from microgrid.nn import MLP

X = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 1.5]])
Y = np.array([1.0, -2.0, 0.5])


def linear():
    """A loss with two weights and an offset, its compiled form, and the leaves."""
    w, b = [mg.Value(0.5, label="w0"), mg.Value(-1.5, label="w1")], mg.Value(0.25, label="b")

    def loss(x, y):
        return (mg.dot(w, x) + b - y) ** 2

    return loss, [*w, b]


def eager_mean(loss, *batch):
    return mg.mean(
        [loss(*[mg.Value(a) if np.ndim(a) == 0 else list(a) for a in sample]) for sample in zip(*batch, strict=True)]
    )


def gradients(output, leaves):
    for leaf in leaves:
        leaf.grad = 0.0
    output.backward()
    return [leaf.grad for leaf in leaves]


# -- calling -------------------------------------------------------------------------------------------


def test_a_call_returns_a_value_whose_backward_fills_the_gradients_as_eager_would():
    loss, leaves = linear()
    compiled, eager = compile(loss)(X, Y), eager_mean(loss, X, Y)
    assert isinstance(compiled, mg.Value)
    assert compiled.data == pytest.approx(eager.data, rel=1e-14)
    assert gradients(compiled, leaves) == pytest.approx(gradients(eager, leaves), rel=1e-13)


def test_compile_is_a_decorator_with_and_without_options():
    w = mg.Value(3.0)

    @compile
    def mean(x):
        """Times w."""
        return w * x

    @compile(reduce="sum")
    def total(x):
        return w * x

    assert mean([1.0, 2.0]).data == 4.5
    assert total([1.0, 2.0]).data == 9.0
    assert (mean.__name__, mean.__doc__) == ("mean", "Times w.")


def test_forward_recomputes_a_compiled_call_after_a_leaf_changed():
    loss, leaves = linear()
    doubled = compile(loss)(X, Y) * 2.0
    leaves[0].data = 4.0
    assert doubled.forward().data == pytest.approx(2.0 * eager_mean(loss, X, Y).data)


def test_values_among_the_arguments_get_gradients_too():
    loss, leaves = linear()
    mine = [mg.Value(2.0), mg.Value(-1.0), mg.Value(0.3)]
    compiled = compile(loss)([[mine[0] * mine[1], 1.0], [2.0, mine[2]]], [1.0, mine[1]])
    eager = mg.mean([loss([mine[0] * mine[1], 1.0], 1.0), loss([2.0, mine[2]], mine[1])])
    assert gradients(compiled, [*mine, *leaves]) == pytest.approx(gradients(eager, [*mine, *leaves]))


def test_a_compiled_call_has_derivatives_of_every_order():
    w = mg.Value(0.7)
    f = compile(lambda x: mg.sin(w * x) * w)
    y = f([1.0, 2.0])
    (first,) = gradient_graph(y, [w])
    (second,) = gradient_graph(first, [w])
    reference = mg.mean([mg.sin(w * x) * w for x in (1.0, 2.0)])
    (one,) = gradient_graph(reference, [w])
    (two,) = gradient_graph(one, [w])
    assert (first.data, second.data) == (pytest.approx(one.data), pytest.approx(two.data))
    assert y.local_derivatives() == (pytest.approx(one.data),)


def test_a_hessian_compiles_as_any_graph_does():
    rosenbrock = lambda x: mg.total([100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2 for a, b in pairwise(x)])  # noqa: E731
    kernel = compile(lambda x: hessian(rosenbrock)(x), batch=False).kernel([0.5, -1.0, 2.0])
    expected = hessian(rosenbrock)([0.5, -1.0, 2.0])
    assert kernel.value([], [0.5, -1.0, 2.0]).reshape(3, 3).tolist() == pytest.approx(np.array(expected))


def test_a_compiled_function_inside_another_becomes_part_of_it():
    w = mg.Value(2.0)
    inner = compile(lambda x: w * x)
    outer = compile(lambda a, b: inner([a, b]) ** 2)
    result = outer([1.0, 3.0], [2.0, 5.0])
    assert result.data == pytest.approx((9.0 + 64.0) / 2)
    assert gradients(result, [w]) == [pytest.approx((2 * 3 * 1.5 + 2 * 8 * 4) / 2)]


def test_a_compiled_function_of_whole_arguments_inside_another_becomes_part_of_it():
    inner = compile(lambda x: x[0] * x[1], batch=False)
    each = compile(lambda x: 3.0 * x, reduce=None)
    outer = compile(lambda a: inner([a, a]) + each([a])[0])
    assert outer([2.0]).data == 10.0


def test_reduce_none_gives_a_value_for_each_sample():
    loss, leaves = linear()
    values = compile(loss, reduce=None)(X, Y)
    singles = [loss(list(x), y) for x, y in zip(X, Y, strict=True)]
    assert [v.data for v in values] == pytest.approx([s.data for s in singles])
    assert gradients(values[1], leaves) == pytest.approx(gradients(singles[1], leaves))
    mine = [mg.Value(1.0), mg.Value(2.0)]
    second = compile(loss, reduce=None)([[1.0, 2.0], mine], [0.0, 0.0])[1]
    assert gradients(second, mine) == pytest.approx(gradients(loss(mine, 0.0), mine))


def test_a_model_and_its_regularisation_without_a_batch_axis():
    model = MLP(2, [4, 1], seed=3) if "seed" in MLP.__init__.__code__.co_varnames else MLP(2, [4, 1])
    weights = model.parameters()

    def loss(x, y):
        score = model(x)
        return mg.relu(1.0 - y * (score[0] if isinstance(score, list) else score)) + 0.01 * mg.total(
            [p * p for p in weights]
        )

    for reduce, eager in (("mean", lambda v: mg.mean(v)), ("sum", mg.total)):
        compiled = compile(loss, reduce=reduce)(X, Y)
        reference = eager([loss(list(x), y) for x, y in zip(X, Y, strict=True)])
        assert compiled.data == pytest.approx(reference.data, rel=1e-12)
        assert gradients(compiled, weights) == pytest.approx(gradients(reference, weights), rel=1e-11)


def test_what_does_not_depend_on_the_batch_is_the_same_for_every_sample():
    w = mg.Value(3.0)
    for reduce, factor in (("mean", 1.0), ("sum", 3.0)):
        kernel = compile(lambda x: w * w, reduce=reduce).kernel(X)
        value, gradient = kernel.value_and_grad([3.0], X)
        assert (value, gradient.tolist()) == (9.0 * factor, [6.0 * factor])
    constant = compile(lambda x: 2.0).kernel(X)
    assert constant.value([], X) == 2.0
    assert compile(lambda x: 2.0)(X).data == 2.0


# -- kernels -------------------------------------------------------------------------------------------


def test_a_kernel_works_on_flat_arrays_and_leaves_the_values_alone():
    loss, leaves = linear()
    kernel = compile(loss).kernel(X, Y)
    assert kernel.parameters == leaves
    assert kernel.read().tolist() == [0.5, -1.5, 0.25]
    theta = kernel.read() + 1.0
    value, gradient = kernel.value_and_grad(theta, X, Y)
    assert (leaves[0].data, leaves[0].grad) == (0.5, 0.0)
    kernel.write(theta)
    assert leaves[0].data == 1.5
    assert value == kernel.value(theta, X, Y) == pytest.approx(eager_mean(loss, X, Y).data)
    assert gradient == pytest.approx(gradients(eager_mean(loss, X, Y), leaves))


def test_gradients_by_the_arguments_have_the_arguments_shapes():
    loss, _leaves = linear()
    kernel = compile(loss, reduce=None).kernel(X, Y)
    values, (by_x, by_y) = kernel.value_and_grad(kernel.read(), X, Y, by="arguments")
    assert (values.shape, by_x.shape, by_y.shape) == ((3,), (3, 2), (3,))
    error = X @ [0.5, -1.5] + 0.25 - Y
    assert by_x == pytest.approx(2 * error[:, None] * [0.5, -1.5])
    assert by_y == pytest.approx(-2 * error)


def test_a_bound_kernel_reads_and_writes_in_place():
    loss, _leaves = linear()
    kernel = compile(loss).kernel(X, Y)
    theta, gradient = kernel.read(), np.zeros(3)
    step = kernel.bind(theta, gradient)
    for batch in (slice(0, 3), slice(0, 2)):
        theta += 0.5
        value, expected = kernel.value_and_grad(theta, X[batch], Y[batch])
        assert step(X[batch], Y[batch]) == value
        assert gradient.tolist() == expected.tolist()


@pytest.mark.parametrize("alone", [False, True])
def test_a_bound_kernel_of_several_outputs_descends_the_first_and_reports_all(alone):
    loss, leaves = linear()

    def report(x, y):
        first = leaves[0] * leaves[1] * 3.0 if alone else loss(x, y)
        return [first, x[0] * leaves[2], x[1]]

    kernel = compile(report, reduce=None).kernel(X, Y)
    single = compile(lambda x, y: report(x, y)[0]).kernel(X, Y)
    assert kernel.parameters == leaves
    theta, gradient = kernel.read(), np.zeros(3)
    step = kernel.bind(theta, gradient)
    for batch in (slice(0, 3), slice(0, 2)):
        theta += 0.5
        assert step(X[batch], Y[batch]) == pytest.approx(kernel.value(theta, X[batch], Y[batch]), rel=1e-15)
        mine = [leaves.index(p) for p in single.parameters]
        expected = np.zeros(3)
        expected[mine] = single.value_and_grad(theta[mine], X[batch], Y[batch])[1]
        assert gradient == pytest.approx(expected, rel=1e-15)


def test_a_bound_kernel_of_plain_floats_writes_in_place_too():
    w = mg.Value(2.0)
    kernel = compile(lambda x: w * w * x, batch=False).kernel(3.0)
    gradient = np.zeros(1)
    assert kernel.bind(np.array([2.0]), gradient)(3.0) == 12.0
    assert gradient.tolist() == [12.0]


@pytest.mark.parametrize("reduce", ["mean", None])
def test_several_outputs_have_a_jacobian_and_weighted_gradients(reduce):
    w = mg.Value(2.0)
    compiled = compile(lambda x: [w * x, x * x, {"third": mg.exp(w)}], reduce=reduce)
    x = np.array([1.0, 3.0])
    kernel = compiled.kernel(x)
    value, jacobian = kernel.value_and_grad([2.0], x)
    rows = np.array([[1.0, 3.0], [0.0, 0.0], [math.exp(2.0)] * 2])
    numbers = np.array([[2.0, 6.0], [1.0, 9.0], [math.exp(2.0)] * 2])
    if reduce == "mean":
        assert value == pytest.approx(numbers.mean(1))
        assert jacobian[:, 0] == pytest.approx(rows.mean(1))
        _, weighted = kernel.value_and_grad([2.0], x, seed=[1.0, 5.0, 0.0])
        assert weighted == pytest.approx(rows.mean(1)[:1])
        first, second, third = compiled(x)
        outputs = [first, second, third["third"]]
        assert [o.data for o in outputs] == pytest.approx(numbers.mean(1))
        assert gradients(outputs[2], [w]) == pytest.approx([math.exp(2.0)])
    else:
        assert value == pytest.approx(numbers.T)
        assert jacobian[:, :, 0] == pytest.approx(rows.T)
        outputs = [[first, second, third["third"]] for first, second, third in compiled(x)]
        assert [[o.data for o in sample] for sample in outputs] == pytest.approx(numbers.T)


def test_several_outputs_of_plain_floats_have_a_jacobian():
    kernel = compile(lambda x: [x[0] * x[1], x[1] ** 2], batch=False).kernel([2.0, 3.0])
    value, (jacobian,) = kernel.value_and_grad([], [2.0, 3.0], by="arguments")
    assert value.tolist() == [6.0, 9.0]
    assert jacobian.tolist() == [[3.0, 2.0], [0.0, 6.0]]


def test_a_graph_that_exists_compiles_with_its_inputs_named():
    x, y, w = mg.Value(2.0, label="x"), mg.Value(0.5, label="y"), mg.Value(-3.0)
    graph = mg.tanh(x * w) + y * w
    kernel = compile(graph, inputs=[x, [y]])
    assert kernel.signature.names == ("x", "input 1")
    value, _gradient = kernel.value_and_grad(kernel.read(), [2.0, 1.0], [[0.5], [0.25]])
    assert value == pytest.approx((math.tanh(-6) - 1.5 + math.tanh(-3) - 0.75) / 2)
    assert kernel.parameters == [w]
    assert compile(graph).value([2.0, -3.0, 0.5]) == pytest.approx(graph.data)
    assert compile([graph, w * w]).value([2.0, -3.0, 0.5]) == pytest.approx([graph.data, 9.0])


def test_float32_computes_in_float32():
    loss, _ = linear()
    kernel = compile(loss, dtype="float32").kernel(X, Y)
    value, gradient = kernel.value_and_grad(kernel.read(), X, Y)
    assert gradient.dtype == np.float32
    assert value == pytest.approx(eager_mean(loss, X, Y).data, rel=1e-5)


def test_integer_labels_choose_by_where_and_one_hot():
    w = [mg.Value(0.1 * k) for k in range(6)]

    def loss(x, label):
        scores = [w[2 * k] * x + w[2 * k + 1] for k in range(3)]
        picked = mg.total([mg.where(mg.equal(label, k), s, 0.0) for k, s in enumerate(scores)])
        return mg.logsumexp(scores) - picked

    labels, x = np.array([2, 0, 1, 2]), np.array([0.5, -1.0, 2.0, 0.0])
    compiled = compile(loss)(x, labels)
    reference = mg.mean([loss(a, float(b)) for a, b in zip(x.tolist(), labels, strict=True)])
    assert compiled.data == pytest.approx(reference.data)
    assert gradients(compiled, w) == pytest.approx(gradients(reference, w))


def test_a_pickled_kernel_computes_the_same_in_another_process(tmp_path):
    loss, _ = linear()
    kernel = compile(loss).kernel(X, Y)
    file = tmp_path / "kernel.pickle"
    file.write_bytes(pickle.dumps(kernel))
    text = (
        "import pickle, sys, numpy as np; k = pickle.load(open(sys.argv[1], 'rb'));"
        f"print(k.value(k.read(), {X.tolist()}, {Y.tolist()}).hex(), k.parameters[0].label)"
    )
    done = subprocess.run([sys.executable, "-c", text, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [kernel.value(kernel.read(), X, Y).hex(), "w0"]


def test_a_graph_with_a_compiled_call_pickles():
    loss, _leaves = linear()
    again = pickle.loads(pickle.dumps(compile(loss)(X, Y) * 3.0))
    assert again.forward().data == pytest.approx(3.0 * eager_mean(loss, X, Y).data)


def test_threads_share_a_kernel():
    loss, _ = linear()
    kernel = compile(loss).kernel(X, Y)
    thetas = np.random.default_rng(0).normal(size=(8, 3))
    expected = [kernel.value_and_grad(theta, X, Y)[1].tolist() for theta in thetas]
    wrong = []

    def work(k):
        wrong.extend(kernel.value_and_grad(thetas[k], X, Y)[1].tolist() != expected[k] for _ in range(200))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 1600
    assert not any(wrong)


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
def test_a_huge_batch_is_computed_in_tiles_with_the_same_result(reduce):
    w = [mg.Value(0.3), mg.Value(-0.2)]
    f = lambda x: mg.total([mg.tanh(w[0] * t) for t in x]) * mg.exp(w[1] * x[1]) + w[0] * w[0]  # noqa: E731
    x = np.random.default_rng(0).normal(size=(12_000, 50))
    kernel = compile(f, reduce=reduce).kernel(x)
    assert kernel.executable(Task.gradient("both")).tile(len(x)) < len(x)
    value, (by_theta, (by_x,)) = kernel.value_and_grad(kernel.read(), x, by="both")
    tiles = [kernel.value_and_grad(kernel.read(), part, by="both") for part in np.split(x, 100)]
    join = {"mean": lambda a: np.mean(a, 0), "sum": lambda a: np.sum(a, 0), None: np.concatenate}[reduce]
    assert value == pytest.approx(join([t[0] for t in tiles]), rel=1e-12)
    assert by_theta == pytest.approx(join([t[1][0] for t in tiles]), rel=1e-12)
    by_tile = np.concatenate([t[1][1][0] for t in tiles]) / (100 if reduce == "mean" else 1)
    np.testing.assert_allclose(by_x, by_tile, rtol=1e-12)


@pytest.mark.parametrize("used", [[0], [1], [2], [0, 2], [10], []])
def test_arguments_that_are_not_used_change_nothing(used):
    w = mg.Value(2.0)
    arguments = [np.full((3, 2), float(k + 1)) for k in range(11)]
    f = "lambda " + ", ".join(f"x{k}" for k in range(11)) + ": w * 1.0" + "".join(f" + x{k}[1] * w" for k in used)
    for reduce in ("mean", None):
        kernel = compile(eval(f, {"w": w}), reduce=reduce).kernel(*arguments)
        value, (by_theta, by_arguments) = kernel.value_and_grad([2.0], *arguments, by="both")
        assert np.all(value == 2.0 + sum(2.0 * (k + 1) for k in used))
        assert np.all(by_theta == 1.0 + sum(k + 1.0 for k in used))
        share = 1.0 if reduce is None else 1.0 / 3.0
        assert [g.sum() for g in by_arguments] == pytest.approx([6.0 * share * (k in used) for k in range(11)])


@pytest.mark.parametrize("choice", [-1.5, 0.0, float("nan")])
def test_a_choice_by_a_constant_is_made_when_it_is_compiled(choice):
    kernel = compile(lambda x: mg.where(choice, mg.sin(x), x * 2.0), reduce=None).kernel([1.0])
    value, (slope,) = kernel.value_and_grad([], [0.5, 1.0], by="arguments")
    chosen = [math.sin(0.5), math.sin(1.0)] if choice else [1.0, 2.0]
    assert value == pytest.approx(chosen)
    assert slope == pytest.approx([math.cos(0.5), math.cos(1.0)] if choice else [2.0, 2.0])


def test_one_parameter_used_in_many_places_has_its_gradient_in_each_sample():
    w = mg.Value(0.5)
    x = np.arange(8.0).reshape(2, 4)
    kernel = compile(lambda x: mg.total([t * w + 1.0 for t in x]) + w * x[0] - w, reduce=None).kernel(x)
    value, gradient = kernel.value_and_grad([0.5], x)
    slope = x.sum(axis=1) + x[:, 0] - 1.0
    assert value == pytest.approx(0.5 * slope + 4.0)
    assert gradient[:, 0] == pytest.approx(slope)


def test_results_are_not_overwritten_by_the_next_call():
    loss, _ = linear()
    kernel = compile(loss).kernel(X, Y)
    _, first = kernel.value_and_grad([0.0, 0.0, 0.0], X, Y)
    kept = first.copy()
    kernel.value_and_grad([1.0, 2.0, 3.0], X, Y)
    assert first.tolist() == kept.tolist()


def test_many_batch_sizes_keep_few_buffers():
    loss, _ = linear()
    kernel = compile(loss).kernel(X, Y)
    x, y = np.ones((40, 2)), np.ones(40)
    for size in range(1, 40):
        kernel.value(kernel.read(), x[:size], y[:size])
    assert len(kernel.executable(VALUE).sizes) == 8


def test_a_compiled_graph_dies_with_its_last_reference():
    loss, _ = linear()
    compiled = compile(loss)
    compiled(X, Y)
    gc.collect()
    gc.disable()
    try:
        call = compiled(X, Y)
        call.backward()
        seen = weakref.ref(call.op.kernel), len(gc.get_objects())
        for _ in range(20):
            compiled(X, Y).backward()
        assert len(gc.get_objects()) <= seen[1] + 5
    finally:
        gc.enable()


def test_stages_can_be_read():
    loss, _ = linear()
    kernel = compile(loss).kernel(X, Y)
    assert "sum[3]" not in kernel.dump("program")
    assert "mul(" in kernel.dump("program")
    assert "class 0: 2 × argument[0]" in kernel.dump("classes")
    assert "contract(" in kernel.dump("arrays")
    assert kernel.dump("source") == kernel.source
    assert "def run(X0, X1" in kernel.source
    assert repr(kernel).startswith("<kernel of (x, y), 3 parameters")
    with pytest.raises(ValueError, match="stage must be"):
        kernel.dump("object code")


def test_a_kernel_describes_itself_as_boxes_with_shapes():
    w = [mg.Value(0.1 * k) for k in range(12)]
    f = lambda x: mg.total([mg.tanh(mg.dot(w[3 * k : 3 * k + 3], x)) for k in range(4)])  # noqa: E731
    boxes = compile(f).kernel(np.ones((2, 3))).boxes()
    assert {box.name for box in boxes if not box.operands} == {"x", "parameters", "weight", "count"}
    product = next(box for box in boxes if box.name == "contract")
    assert (product.symbol, product.shape) == ("@", "4 × batch")
    assert {boxes[k].name for k in product.operands} == {"x", "parameters"}
    assert sorted(result for box in boxes for result in box.results) == ["gradient", "output"]
    kernel = compile(lambda x: mg.sin(x) * 2.0, batch=False).kernel(1.0)
    formed(kernel, "loops")
    with pytest.raises(ValueError, match=r"read kernel.source"):
        kernel.boxes()
    assert "lines>" in repr(kernel)


def test_a_function_without_arguments_has_parameters_only():
    w = [mg.Value(1.0), mg.Value(2.0)]
    kernel = compile(lambda: w[0] * w[1] ** 2).kernel()
    value, gradient = kernel.value_and_grad([3.0, 4.0])
    assert kernel.parameters == [w[1], w[0]]  # in the order of their first use
    assert (value, gradient.tolist()) == (36.0, [24.0, 9.0])


def test_python_errors_of_plain_floats_become_inf_and_nan():
    kernel = compile(lambda x: 1.0 / x + mg.log(x), batch=False).kernel(1.0)
    value, (gradient,) = kernel.value_and_grad([], 0.0, by="arguments")
    assert math.isnan(value)
    assert gradient == -math.inf or math.isnan(gradient)
    assert kernel.value([], 2.0) == 0.5 + math.log(2.0)


# -- what a kernel was traced with -----------------------------------------------------------------------


def test_a_parameter_that_was_replaced_is_noticed():
    holder = {"w": mg.Value(2.0)}
    compiled = compile(lambda x: holder["w"] * x)
    assert compiled([1.0]).data == 2.0
    holder["w"] = mg.Value(5.0)
    result = compiled([1.0])
    assert result.data == 5.0
    assert gradients(result, [holder["w"]]) == [1.0]


def test_leaves_are_found_in_objects_methods_globals_and_modules():
    class Model:
        def __init__(self):
            self.scale = mg.Value(3.0)
            self.layers = [{"w": mg.Value(1.0)}, (mg.Value(4.0),)]

        @compile
        def loss(self, x):
            return self.scale * x * self.layers[0]["w"]

    model = Model()
    assert model.loss([2.0]).data == 6.0
    compiled = compile(model.loss.function)
    assert compiled([2.0]).data == 6.0
    model.layers[0]["w"] = mg.Value(10.0)
    assert compiled([2.0]).data == 60.0
    assert isinstance(Model.loss.kernel, object)


def test_a_captured_result_is_computed_from_its_leaves():
    w = mg.Value(3.0)
    square = w * w
    compiled = compile(lambda x: square * x)([1.0, 2.0])
    assert compiled.data == 13.5
    assert gradients(compiled, [w]) == [9.0]


def test_each_structure_of_arguments_is_traced_once():
    recorded = []
    f = compile(lambda x: mg.total(x))
    with mg.recording.watch(lambda node: recorded.append(node.op.name)):
        for width in (4, 3, 4, 3):
            f(np.ones((4, width)))
    assert [name for name in recorded if name.startswith("sum")] == ["sum[4]", "sum[3]"]


# -- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda x: x if x > 0 else -x, r"a branch on a traced value at .*test_kernel.py:\d+.*mg.where"),
        (lambda x: x and 1.0, r"a branch on a traced value.*mg.where"),
        (lambda x: x * x.data, r"\.data of a traced value was read at .*test_kernel.py"),
        (lambda x: max(x, 0.0), r"mg.maximum"),
        (lambda x: x if x == 1 else -x, r"compared to 1 by == .*test_kernel.py:\d+.*mg.equal"),
        (lambda x: -x if x in (0.0, 1.0) else x, r"compared to 0.0 by =="),
        (lambda x: x if x != x * 2 else -x, r"compared to another value by == or !=.*mg.equal"),
        (lambda x: setattr(x, "data", 1.0), r"written"),
        (lambda x: [1.0, 2.0][x], r"used as an index or as a count at .*test_kernel.py:\d+.*mg.equal"),
        (lambda x: list(range(x)), r"used as an index or as a count"),
        (lambda x: [x] * x, r"used as an index or as a count"),
        (lambda x: int(x) * x, r"made a whole number at .*test_kernel.py:\d+.*mg.floor"),
        (lambda x: float(x) * x, r"made a plain float at .*test_kernel.py:\d+.*mg.sin"),
        (lambda x: math.sin(x), r"made a plain float .*not math.sin"),
    ],
)
def test_what_a_program_cannot_repeat_is_refused_with_the_line_and_the_remedy(body, message):
    with pytest.raises(TraceError, match=message):
        compile(body)([1.0, 2.0])


@pytest.mark.parametrize("body", [lambda x: x << 1, lambda x: x[0], lambda x: [*x]])
def test_what_values_cannot_do_names_no_private_class(body):
    with pytest.raises(TypeError, match="traced value") as failure:
        compile(body)([1.0, 2.0])
    assert "Traced" not in str(failure.value)


def test_a_result_cut_by_no_grad_is_refused():
    def f(x):
        with mg.no_grad():
            frozen = x * 2.0
        return frozen * x

    with pytest.raises(TraceError, match="stop_gradient"):
        compile(f)([1.0])


def test_compiling_under_no_grad_records_all_the_same():
    w = mg.Value(2.0)
    f = compile(lambda x: w * x)
    with mg.no_grad():
        assert f([3.0]).is_leaf
    assert gradients(f([3.0]), [w]) == [3.0]


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((X,), TypeError, r"takes 2 argument\(s\) \(x, y\); got 1"),
        ((X[:, :1], Y), ValueError, r"argument x must have the shape \(batch, 2\); got \(3, 1\)"),
        ((X, Y[:2]), ValueError, r"argument y has 2 samples but x has 3"),
        ((X[:0], Y[:0]), ValueError, r"argument x has no samples"),
        ((X, ["a", "b", "c"]), TypeError, r"argument y must be an array of real numbers; got <U1"),
        ((X, [1j, 0, 0]), TypeError, r"argument y .*complex"),
        ((X, [[1.0], [1.0, 2.0], []]), TypeError, r"argument y .*differ in length"),
    ],
)
def test_a_wrong_batch_names_the_argument_what_was_expected_and_given(batch, error, message):
    loss, _ = linear()
    kernel = compile(loss).kernel(X, Y)
    with pytest.raises(error, match=message):
        kernel.value(kernel.read(), *batch)


def test_a_wrong_call_of_a_compiled_function_is_explained():
    loss, leaves = linear()
    compiled = compile(loss)
    with pytest.raises(ValueError, match="x must have a leading axis over the samples"):
        compiled(1.0, 2.0)
    with pytest.raises(ValueError, match="x has no samples"):
        compiled(X[:0], Y[:0])
    with pytest.raises(TypeError, match="argument x"):
        compiled([[leaves[0], "a"]], [1.0])
    with pytest.raises(ValueError, match=r"argument x must have the shape \(2,\)"):
        compile(lambda x: mg.total(x), batch=False).kernel([1.0, 2.0]).value([], [1.0])
    with pytest.raises(TypeError, match=r"<lambda> must return numbers.*str"):
        compile(lambda x: ["a"])([1.0])
    with pytest.raises(TypeError, match="empty structure"):
        compile(lambda x: [])([1.0])


def test_wrong_parameters_and_options_are_explained():
    loss, _ = linear()
    kernel = compile(loss).kernel(X, Y)
    with pytest.raises(ValueError, match="theta must be a flat array of 3 numbers"):
        kernel.value([1.0], X, Y)
    with pytest.raises(ValueError, match="by must be"):
        kernel.value_and_grad(kernel.read(), X, Y, by="weights")
    several = compile(lambda x: [x, x * x]).kernel([1.0])
    with pytest.raises(ValueError, match=r"seed must have the shape \(2,\), a weight per output; got \(3,\)"):
        several.value_and_grad([], [1.0], seed=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"seed is the weight of each of several results.*leave it out"):
        kernel.value_and_grad(kernel.read(), X, Y, seed=[2.0])
    with pytest.raises(ValueError, match="reduce must be"):
        compile(loss, reduce="max")
    with pytest.raises(ValueError, match="dtype must be"):
        compile(loss, dtype="int")
    with pytest.raises(TypeError, match="takes a function, a Value"):
        compile(3.0)
    with pytest.raises(TypeError, match="inputs must be leaves"):
        compile(mg.Value(1.0) * 2.0, inputs=[3.0])
    x = mg.Value(1.0)
    with pytest.raises(ValueError, match="stands twice"):
        compile(x * 2.0, inputs=[x, x])
    with pytest.raises(TypeError, match="contiguous"):
        kernel.bind([1.0, 2.0, 3.0], np.zeros(3))
    theta = np.zeros(3)
    for gradient, reason in ((np.frombuffer(bytes(24)), "gradient, which is read-only"), (theta, "share memory")):
        with pytest.raises(ValueError, match=reason):
            kernel.bind(theta, gradient)
    for f, reduce in ((loss, None), (lambda x, y: [loss(x, y), x[0]], "mean")):
        with pytest.raises(ValueError, match="one output and reduce='mean' or 'sum', or several and reduce=None"):
            compile(f, reduce=reduce).kernel(X, Y).bind(np.zeros(3), np.zeros(3))


def test_the_kernel_is_public():
    assert isinstance(compile(lambda x: x).kernel([1.0]), Kernel)


def test_a_kernel_keeps_no_result_that_it_gave_away():
    kernel = compile(lambda x: mg.sin(x), reduce=None).kernel([1.0])
    value, (slope,) = kernel.value_and_grad([], [0.5, 1.0], by="arguments")
    memory = [weakref.ref(array if array.base is None else array.base) for array in (value, slope)]
    del value, slope
    assert [reference() for reference in memory] == [None, None]


@pytest.mark.parametrize(
    ("f", "batch", "options", "target", "why_not"),
    [
        (lambda x: mg.sin(x), [0.5, 1.0], {}, "numpy", {"loops": "axis over samples", "floats": "axis over samples"}),
        (
            lambda x: mg.sin(x),
            0.5,
            {"batch": False},
            "floats",
            {"tape": "few", "loops": "few enough to be written out"},
        ),
        (lambda x: mg.total([mg.sin(t) for t in x]), [0.5] * 99, {"batch": False}, "numpy", {"floats": "repeats"}),
        (lambda x: functools.reduce(lambda y, _: mg.sin(y) * 1.1, range(999), x), 0.5, {"batch": False}, "loops", {}),
    ],
)
def test_a_kernel_tells_what_computes_it_and_why_nothing_before_does(f, batch, options, target, why_not):
    order = ["native", "native tape", "tape", "loops", "floats", "numpy"]
    kernel = compile(f, **options).kernel(batch)
    assert kernel.target == target
    assert [*kernel.why_not] == order[: order.index(target)]
    why_not = {"native": "MICROGRID_NATIVE is off", **why_not}
    assert all(part in kernel.why_not[name] for name, part in why_not.items())


def test_native_code_is_the_first_choice_and_the_next_one_where_it_cannot_be_made(monkeypatch):
    monkeypatch.delenv("MICROGRID_NATIVE")
    kernel = compile(lambda x: mg.sin(x) * 2.0).kernel([0.5, 1.0])
    assert (kernel.target, kernel.why_not) == ("native", {})
    assert kernel.value([], [0.5, 1.0]) == pytest.approx(np.mean(2.0 * np.sin([0.5, 1.0])))
    assert compile(lambda x: round(x, 2)).kernel([0.5]).target == "numpy"  # a row without a native form
    broken = compile(lambda x: mg.sin(x) * 3.0).kernel([0.5, 1.0])
    monkeypatch.setattr("microgrid.compiler.targets.native.llvm.emit", lambda *_, **__: 1 / 0)
    with pytest.warns(RuntimeWarning, match="no native code for this function, which runs by 'numpy' instead: Zero"):
        value = broken.value([], [0.5, 1.0])
    assert value == pytest.approx(np.mean(3.0 * np.sin([0.5, 1.0])))
    assert (broken.target, broken.why_not["native"]) == ("numpy", "ZeroDivisionError: division by zero")
    broken.value_and_grad([], [0.5, 1.0], by="arguments")  # without another warning
    insisted = compile(lambda x: mg.sin(x) * 3.0, target="native").kernel([0.5, 1.0])
    with pytest.raises(ValueError, match="target 'native' does not suit this function: ZeroDivisionError"):
        insisted.value([], [0.5, 1.0])


@pytest.mark.parametrize("target", ["native", "floats", "numpy"])
def test_a_function_of_plain_numbers_gives_the_value_and_its_derivatives(target):
    w = mg.Value(0.5)
    f = compile(lambda a, b: mg.tanh(w * a) * b, batch=False, target=target).kernel(1.0, 2.0).function()
    y = math.tanh(0.75)
    value, gradient = f(1.5, 2.0)
    assert (value, *gradient) == pytest.approx((2.0 * y, 2.0 * 0.5 * (1.0 - y * y), y), rel=1e-14)
    assert all(type(x) is float for x in (value, *gradient))
    assert f(1, 2) == f(1.0, 2.0) == f(np.float64(1.0), True + True)
    with pytest.raises(TypeError, match="argument b must be an array of real numbers; got"):
        f(1.0, "2")
    with pytest.raises(TypeError, match="takes 2 argument"):
        f(1.0)


def test_what_is_no_function_of_plain_numbers_is_refused():
    w = mg.Value(0.5)
    for kernel in (
        compile(lambda x: x * w).kernel([1.0]),
        compile(lambda x: mg.total(x), batch=False).kernel([1.0, 2.0]),
        compile(lambda x: [x, w], batch=False).kernel(1.0),
        compile(lambda: w * w, batch=False).kernel(),
    ):
        with pytest.raises(ValueError, match=r"function\(\) is for one result of arguments that are each one number"):
            kernel.function()


@pytest.mark.parametrize("target", ["native", "numpy", "floats"])
def test_a_target_that_is_insisted_on_computes_the_same(target):
    f = lambda x: mg.sin(x) * mg.exp(x)  # noqa: E731
    kernel = compile(f, batch=False, target=target).kernel(0.5)
    assert (kernel.target, kernel.why_not) == (target, {})
    value, (slope,) = kernel.value_and_grad([], 0.5, by="arguments")
    assert (value, slope) == pytest.approx(
        (math.sin(0.5) * math.exp(0.5), math.exp(0.5) * (math.sin(0.5) + math.cos(0.5)))
    )
    assert pickle.loads(pickle.dumps(kernel)).target == target
    assert compile(target=target, batch=False)(f).kernel(0.5).target == target
    x = mg.Value(0.5)
    assert compile(f(x), inputs=[x], batch=False, target=target).target == target


def test_a_target_that_does_not_suit_or_is_not_there_is_refused_with_the_reason():
    with pytest.raises(
        ValueError, match=r"'floats' does not suit .*: its arguments have an axis over samples; take 'native'"
    ):
        compile(lambda x: x * x, target="floats")([1.0, 2.0])
    with pytest.raises(ValueError, match=r"target must be .*'numpy' or None; got 'fortran'"):
        compile(lambda x: x, target="fortran")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", [VALUE, Task.gradient("parameters"), Task.gradient("both"), VJP, PULLBACK])
def test_every_form_of_a_program_computes_every_task(form, task):
    w = [mg.Value(0.3), mg.Value(-0.7)]
    f = lambda x: [mg.sin(w[0] * x[0]) + x[1], mg.exp(w[1] * x[1]), x[0], 2.0]  # noqa: E731
    x, theta, seed = np.array([0.4, 1.5]), np.array([0.3, -0.7]), np.array([1.0, 2.0, 0.5, 3.0])
    kernel = formed(compile(f, batch=False).kernel(x), form)
    outs = [np.full(shape, np.nan) for shape, _ in task.forms(kernel.signature, [2, 2])]
    weights = seed if task.takes_seed(kernel.signature) else np.empty(0)
    kernel.executable(task).run(theta, weights, [x], outs)
    c, e = math.cos(0.12), math.exp(-1.05)
    values = [math.sin(0.12) + 1.5, e, 0.4, 2.0]
    by_theta, by_x = [0.4 * c, 2.0 * 1.5 * e], [0.3 * c + 0.5, 1.0 - 2.0 * 0.7 * e]
    expected = [values] * task.value + [by_theta] * task.by_parameters + [by_x] * task.by_arguments
    for out, wanted in zip(outs, expected, strict=True):
        assert out == pytest.approx(np.array(wanted), rel=1e-14)


def test_results_of_many_samples_are_those_of_few_and_stand_apart():
    kernel = compile(lambda x, y: x * mg.exp(y), reduce=None).kernel([0.5], [0.25])
    x, y = np.random.default_rng(0).normal(size=(2, 9_001))
    value, (by_x, by_y) = kernel.value_and_grad([], x, y, by="arguments")
    few = [kernel.value_and_grad([], x[k : k + 1], y[k : k + 1], by="arguments") for k in (0, 1, 9_000)]
    for k, (one, (one_by_x, one_by_y)) in zip((0, 1, 9_000), few, strict=True):
        np.testing.assert_allclose([value[k], by_x[k], by_y[k]], [one[0], one_by_x[0], one_by_y[0]], rtol=1e-15)
    value[:], by_x[:] = 0.0, 1.0
    np.testing.assert_allclose(by_y, x * np.exp(y), rtol=1e-14)
    assert not value.any()
    assert (by_x == 1.0).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threads": 0}, ValueError, "threads must be 1 or more; got 0"),
        ({"threads": 2.0}, TypeError, "threads must be a whole number, such as os.cpu_count(); got 2.0"),
        ({"threads": True}, TypeError, "got True"),
        ({"threads": 2, "batch": False}, ValueError, "threads=2 divides the samples of a batch, and with batch=False"),
        ({"threads": 2, "target": "numpy"}, ValueError, "threads=2 is for target='native'; target='numpy' runs on one"),
    ],
)
def test_threads_that_cannot_be_are_refused(options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        compile(lambda x: x * x, **options)
