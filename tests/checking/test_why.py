"""Why a gradient is zero, vanishing, exploding, infinite or nan: ``mg.why`` finds the cause that was planted."""

import html
import io
import math
import random
import re

import pytest
from hypothesis import given

import microgrid as mg
from microgrid import Op, Value, losses, nn, ops
from microgrid.checking import Cause, Size, causes
from microgrid.checking.flow import Flow
from microgrid.checking.sentences import WORDS
from microgrid.strategies import expressions


def leaves(*numbers):
    return [Value(number, "xyzw"[i]) for i, number in enumerate(numbers)]


def chain(x, op, times):
    for _ in range(times):
        x = op(x)
    return x


def cases():
    """Each with the output, the leaf, what its gradient is, the cause, and the operation at which it is found."""
    x, y, zero = leaves(2.0, -3.0, 0.0)
    yield mg.relu(x * y), x, Size.ZERO, Cause.OFF, "relu"
    yield mg.tanh(500.0 * x), x, Size.ZERO, Cause.SATURATED, "tanh"
    yield mg.tanh(5.0 * x) + y, x, Size.VANISHING, Cause.SATURATED, "tanh"
    yield mg.sigmoid(30.0 * y), y, Size.VANISHING, Cause.SATURATED, "sigmoid"
    yield mg.exp(1000.0 * y), y, Size.ZERO, Cause.SATURATED, "exp"
    yield mg.stop_gradient(x) * y, x, Size.ZERO, Cause.STOPPED, "stop_gradient"
    yield mg.less(x, y) * y, x, Size.ZERO, Cause.STEP, "less"
    yield mg.floor(x) + y, x, Size.ZERO, Cause.STEP, "floor"
    yield mg.where(x, y, 1.0), x, Size.ZERO, Cause.STEP, "where"
    yield mg.where(1.0, y, x * x), x, Size.ZERO, Cause.NOT_CHOSEN, "where"
    yield mg.maximum(x, y), y, Size.ZERO, Cause.NOT_CHOSEN, "maximum"
    yield mg.clip(x * x, 0.0, 1.0), x, Size.ZERO, Cause.NOT_CHOSEN, "clip"
    yield mg.abs(zero) * y, zero, Size.ZERO, Cause.KINK, "abs"
    yield mg.cos(zero), zero, Size.ZERO, Cause.FLAT, "cos"
    yield zero * x, x, Size.ZERO, Cause.ZERO_FACTOR, "mul"
    yield 3.0 * x * y - 3.0 * x * y, x, Size.ZERO, Cause.CANCELLED, "leaf"
    yield x * 1e9 - x * (1e9 - 1e-7), x, Size.VANISHING, Cause.CANCELLED, "leaf"
    yield chain(y, mg.sigmoid, 30), y, Size.VANISHING, Cause.SMALL_FACTORS, "sigmoid"
    yield chain(y, mg.sigmoid, 2000), y, Size.ZERO, Cause.SMALL_FACTORS, "sigmoid"
    yield chain(y, lambda v: 5.0 * v, 30), y, Size.EXPLODING, Cause.LARGE_FACTORS, "mul"
    yield 1e200 * mg.tanh(zero * 1e200), zero, Size.INFINITE, Cause.LARGE_FACTORS, "mul"
    yield mg.exp(1000.0 * x), x, Size.INFINITE, Cause.OVERFLOW, "exp"
    yield mg.sqrt(zero), zero, Size.INFINITE, Cause.INFINITE_DERIVATIVE, "sqrt"
    yield mg.log(zero), zero, Size.INFINITE, Cause.INFINITE_DERIVATIVE, "log"
    yield ops.div(x, zero), x, Size.INFINITE, Cause.INFINITE_DERIVATIVE, "div"
    yield mg.where(zero > 0, mg.sqrt(zero), 0.0), zero, Size.NAN, Cause.ZERO_TIMES_INFINITY, "sqrt"
    yield mg.relu(-mg.sqrt(zero)), zero, Size.NAN, Cause.ZERO_TIMES_INFINITY, "sqrt"
    yield mg.sqrt(zero) - mg.sqrt(zero), zero, Size.NAN, Cause.INFINITIES_CANCEL, "leaf"
    yield mg.log(y) * x, x, Size.NAN, Cause.NAN, "log"
    yield Value(math.nan) * x, x, Size.NAN, Cause.NAN, "leaf"
    yield mg.hypot(zero, 0.0 * zero), zero, Size.NAN, Cause.NAN, "hypot"
    yield ops.div(mg.exp(400.0 * x), mg.exp(400.0 * x) + 1.0), x, Size.NAN, Cause.OVERFLOW, "exp"
    yield x * y, Value(1.0), Size.ZERO, Cause.NO_PATH, None
    yield x * y, x, Size.FINE, Cause.NOTHING, "mul"


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: f"{case[3]} at {case[4]}, {case[2]}")
def test_the_cause_and_its_place_are_named(case):
    output, leaf, size, cause, place = case
    found = mg.why(output, leaf)
    assert (found.size, found.cause) == (size, cause)
    assert (found.node.op.name if found.node is not None else None) == place
    assert found.sentences[0].endswith(".")
    assert found.findings[0].remedy or cause is Cause.NOTHING


def test_every_cause_has_a_case():
    assert {case[3] for case in cases()} == set(Cause) == set(WORDS)


def test_the_gradients_explained_are_those_of_backward_and_none_is_changed():
    x, y = leaves(0.5, -2.0)
    output = mg.tanh(x * y) * y + mg.exp(x)
    output.backward()
    before = [node.grad for node in mg.topological_order(output)]
    assert [mg.why(output, leaf).findings[0].gradient for leaf in (x, y)] == [x.grad, y.grad]
    assert [node.grad for node in mg.topological_order(output)] == before


@given(expressions(max_steps=8))
def test_any_program_is_explained_and_its_findings_are_its_suspicious_gradients(program):
    output, inputs = program.graph()
    if output.is_leaf:
        return
    found = mg.why(output)
    assert str(found)
    assert found._repr_html_()
    flow = Flow([output])
    suspicious = [
        x for x in inputs if x in flow.position and Size.of(flow.gradients[flow.position[x]]) is not Size.FINE
    ]
    explained = {leaf for finding in found.findings for leaf in finding.leaves}
    assert explained <= set(suspicious)
    assert sum(found.counts.values()) == len(suspicious)
    for finding in found.findings:
        assert finding.sentences
        assert finding.cause is not Cause.NOTHING


# ---------------------------------------------------------------------------------------------------
# A network with one fault


def network(activation, depth=3, width=4, seed=0):
    generator = random.Random(seed)
    layers = []
    for i in range(depth):
        layers += [nn.Affine(3 if i == 0 else width, width, seed=generator.randrange(1000)), activation()]
    return nn.Sequential(*layers, nn.Affine(width, 1, seed=seed))


def samples(seed, count=6):
    generator = random.Random(seed)
    return [[generator.gauss(0.0, 1.0) for _ in range(3)] for _ in range(count)]


@pytest.mark.parametrize("seed", range(12))
def test_a_dead_unit_of_a_network_is_named_with_the_number_of_samples(seed):
    model, rows = network(nn.ReLU, depth=1, seed=seed), samples(seed)
    unit = model.modules[0].neurons[seed % 4]
    unit.b.data = -50.0
    found = mg.why([model(row) for row in rows], unit.w[0])
    assert (found.size, found.cause) == (Size.ZERO, Cause.OFF)
    assert "is off for all 6 samples" in found.sentences[0]
    assert "the unit is dead" in found.sentences[0]


@pytest.mark.parametrize("seed", range(6))
def test_weights_out_of_a_dead_unit_name_that_unit(seed):
    model = nn.MLP(3, [4, 1], seed=seed)
    unit = model.layers[0].neurons[seed % 4]
    unit.b.data = -50.0
    output = mg.total(model(row) for row in samples(seed))
    found = mg.why(output, model.layers[1].neurons[0].w[seed % 4])
    assert found.cause is Cause.ZERO_FACTOR
    assert f"the ReLU of Layer 0 · Neuron {seed % 4} is off" in found.sentences[0]
    by_all = mg.why(output)
    dead = next(finding for finding in by_all.findings if finding.cause is Cause.OFF and unit.b in set(finding.leaves))
    assert {*unit.w, unit.b} <= set(dead.leaves)


def test_of_a_batch_that_has_a_few_samples_on_the_unit_is_not_called_dead():
    w = Value(1.0, "w")
    outputs = [mg.relu(w * x) * gate for x, gate in ((-1.0, 1.0), (-2.0, 1.0), (3.0, 0.0))]
    found = mg.why(outputs, w)
    assert found.size is Size.ZERO
    assert "off for 2 of 3 samples" in str(found)
    assert "dead" not in str(found)


@pytest.mark.parametrize("seed", range(8))
def test_a_saturated_tanh_of_a_network_is_named_with_its_argument(seed):
    model, row = network(nn.Tanh, depth=2, seed=seed), samples(seed)[0]
    unit = model.modules[2].neurons[1]
    unit.b.data = 40.0
    found = mg.why(model(row), unit.b)
    assert found.cause is Cause.SATURATED
    assert found.node.op is ops.tanh
    assert f"at {found.node.first.data:.6g} its slope is " in found.sentences[0]


@pytest.mark.parametrize("seed", range(4))
def test_thirty_layers_of_sigmoids_are_explained_layer_by_layer(seed):
    model = network(nn.Sigmoid, depth=30, seed=seed)
    found = mg.why(model(samples(seed)[0]), model.modules[0].neurons[0].w[0])
    assert (found.size, found.cause) == (Size.VANISHING, Cause.SMALL_FACTORS)
    assert re.search(r": Sigmoid \d+ ×", found.sentences[-1])
    assert "30 × sigmoid make" in found.sentences[-1]


@pytest.mark.parametrize("seed", range(4))
def test_weights_that_are_too_large_explode_and_the_layers_are_named(seed):
    model = nn.Sequential(*[nn.Affine(3, 3, seed=10 * seed + i) for i in range(20)], nn.Affine(3, 1, seed=seed))
    for parameter in model.parameters():
        parameter.data *= 30.0
    found = mg.why(model(samples(seed)[0]), model.modules[0].neurons[0].w[0])
    assert (found.size, found.cause) == (Size.EXPLODING, Cause.LARGE_FACTORS)
    assert re.search(r": Affine \d+ · Neuron \d ×", found.sentences[-1])


@pytest.mark.parametrize("seed", range(4))
def test_a_nan_among_the_inputs_is_found_behind_a_whole_network(seed):
    model, row = network(nn.Tanh, seed=seed), [0.5, Value(math.nan, "the broken pixel"), 1.0]
    found = mg.why(model(row), model.modules[0].neurons[0].w[0])
    assert (found.size, found.cause) == (Size.NAN, Cause.NAN)
    assert found.node is row[1]
    assert "the broken pixel was given as nan" in found.sentences[0]


def test_a_gradient_stopped_in_the_middle_of_a_network_is_found_for_all_before_it():
    model = network(nn.Tanh, depth=2)
    hidden = model.modules[1](model.modules[0](samples(0)[0]))
    output = model.modules[2]([mg.stop_gradient(h) for h in hidden])
    found = mg.why(output)
    assert found.cause is Cause.STOPPED
    assert set(found.findings[0].leaves) == set(model.modules[0].parameters())


def test_what_logsumexp_stops_is_no_reason_for_a_gradient_that_reaches_the_output_otherwise():
    x, w = leaves(1.0, 3.0)
    output = losses.cross_entropy([mg.relu(-w * w) * x, 2.0 * x], 0)
    assert mg.why(output, w).cause is Cause.OFF


def test_a_dead_layer_comes_before_the_weights_that_it_multiplies_by_0():
    model = nn.MLP(3, [8, 8, 2], seed=0)
    for unit in model.layers[0].neurons[:6]:
        unit.b.data = -50.0
    found = mg.why(mg.total(total for row in samples(0, 20) for total in model(row)))
    assert found.cause is Cause.OFF
    assert found.sentences[0].startswith("6 of 8 units of Layer 0 are off for all 20 samples, with inputs from −5")
    assert found.sentences[0].endswith(": they are dead.")
    assert [cause is Cause.ZERO_FACTOR for cause in [finding.cause for finding in found.findings]] == sorted(
        finding.cause is Cause.ZERO_FACTOR for finding in found.findings
    )


@pytest.mark.parametrize(
    ("dead", "samples_given", "said"),
    [
        (30, 5, "30 of 32 units of ReLU 1 are off for all 5 samples"),
        (32, 5, "All 32 units of ReLU 1 are off for all 5 samples"),
        (30, 1, "30 of 32 units of ReLU 1 are off, with inputs from "),
    ],
)
def test_dead_units_of_a_layer_are_counted_together(dead, samples_given, said):
    model = nn.Sequential(nn.Affine(3, 32, seed=1), nn.ReLU(), nn.Affine(32, 2, seed=1))
    for k, neuron in enumerate(model.modules[0].neurons):
        neuron.b.data = -50.0 if k < dead else 50.0
    found = mg.why([output for row in samples(0, samples_given) for output in model(row)])
    finding = next(finding for finding in found.findings if finding.cause is Cause.OFF)
    assert finding.sentences[0].startswith(said)
    assert len(finding.leaves) == 4 * dead
    assert len(found.findings) == 2


def test_leaves_are_named_with_the_module_that_they_belong_to():
    model = nn.MLP(3, [8, 2], seed=0)
    row = samples(0)[0]
    for neuron in model.layers[0].neurons:
        neuron.b.data = 50.0
    model.layers[0].neurons[2].b.data = -50.0
    assert re.search(r"\nb, w0, w1, w2 of Layer 0 · Neuron 2 ", str(mg.why(mg.total(model(row)))))
    model.layers[0].neurons[5].b.data = -50.0
    assert re.search(r"\nb, w0, w1, w2, … \(8\) of Layer 0 ", str(mg.why(mg.total(model(row)))))
    w = model.layers[0].neurons[2].w[1]
    assert re.search(r"\nw1 of Layer 0 · Neuron 2 ", str(mg.why(mg.total(model(row)), w)))
    pixel = Value(0.5, "pixel")
    assert re.search(r"\npixel  ", str(mg.why(mg.total(model([pixel, 1.0, 2.0])), pixel)))


@pytest.mark.parametrize(("op", "times"), [(mg.sigmoid, 3), (mg.tanh, 4), (ops.base_of(0.125), 2)])
def test_a_chain_of_saturated_operations_says_how_far_they_are_saturated(op, times):
    x = Value(0.3, "x")
    y = x
    for k in range(times):
        y = op(6.0 + 0.1 * k + 0.5 * y)
    found = mg.why(y, x).findings[0]
    assert (found.size, found.cause) == (Size.VANISHING, Cause.SATURATED)
    name, inputs = y.op.name.partition("[")[0], []
    while not y.is_leaf:
        if y.op is op:
            inputs.append(y.first.data)
        y = y.first if not y.first.is_leaf or y.first is x else y.second
    assert found.sentences[0].startswith(
        f"{times} operations on its path are saturated, {times} × {name}, with inputs from {min(inputs):.6g} to "
        f"{max(inputs):.6g}, where their slopes are "
    )
    assert found.remedy.startswith("Keep the sums small")
    assert "By kind of operation" in found.sentences[-1]


LOGISTIC = Op("logistic", mg.sigmoid.forward, (lambda y, x: y * (1.0 - y),))
ROOT = Op("root", lambda x: math.sqrt(1 + x * x) if x * x < math.inf else math.inf, (lambda y, x: mg.div(x, y),))
RAISING = Op("raising", lambda x: 1 / (1 + x * x), (lambda y, x: -2 * x / ((1 + x * x) * int(1 + x * x)),))


@pytest.mark.parametrize(
    ("op", "at", "cause"),
    [
        *[(op, 40.0, Cause.SATURATED) for op in (mg.tanh, mg.sigmoid, mg.erfc, LOGISTIC, ops.base_of(0.25))],
        *[(op, -800.0, Cause.SATURATED) for op in (mg.exp, mg.softplus, mg.silu, ops.base_of(2.0), LOGISTIC)],
        (mg.atan, 1e200, Cause.SATURATED),
        *[(op, 0.0, Cause.FLAT) for op in (mg.cos, mg.cosh, ops.power_of(2.0), ROOT, RAISING)],
        *[(op, 1e300, Cause.FLAT) for op in (ops.power_of(-1.0), ops.polygamma_of(1))],
        (lambda x: mg.hypot(x, 1.0), 0.0, Cause.FLAT),
        (lambda x: mg.maximum(x, 1.0), 0.9999, Cause.NOT_CHOSEN),
        (lambda x: mg.clip(x, -1.0, 1.0), 1e9, Cause.NOT_CHOSEN),
        (Op("hinge", lambda x: max(x, 0.0), (lambda y, x: x > 0,), kink=lambda x: x > 0), -2.0, Cause.NOT_CHOSEN),
        (mg.elu, -800.0, Cause.SATURATED),
    ],
)
def test_a_slope_of_0_is_called_a_limit_a_stationary_point_or_a_choice(op, at, cause):
    x = Value(at, "x")
    assert mg.why(op(x), x).cause is cause


def logistic(x):
    return mg.exp(x) / (1 + mg.exp(x))


@pytest.mark.parametrize(
    ("lossy", "better"),
    [
        (lambda z: 0.0 * mg.log(mg.sigmoid(z)), lambda z: 0.0 * -mg.softplus(-z)),
        (lambda z: mg.log(mg.sigmoid(z)), lambda z: -mg.softplus(-z)),
        (lambda z: mg.log(1 + mg.exp(-z)), lambda z: mg.softplus(-z)),
        (lambda z: logistic(-z), lambda z: mg.sigmoid(-z)),
    ],
)
def test_where_a_number_overflows_the_formula_that_does_not_is_the_remedy(lossy, better):
    z = Value(-800.0, "z")
    found = mg.why(lossy(z), z)
    assert not math.isfinite(found.findings[0].gradient)
    assert found.findings[0].remedy.startswith("Write ")
    assert "softplus(-z)" in found.findings[0].remedy or " as s" in found.findings[0].remedy
    assert math.isfinite(mg.why(better(z), z).findings[0].gradient)


def test_an_overflow_behind_a_quotient_is_not_taken_for_a_branch_of_where():
    z = Value(-800.0, "z")
    found = mg.why(1 / (1 + mg.exp(-z)), z).findings[0]
    assert found.cause is Cause.ZERO_TIMES_INFINITY
    assert "sigmoid for 1 / (1 + exp(−x))" in found.remedy
    assert "branch" not in found.remedy
    assert mg.why(mg.sigmoid(z), z).findings[0].gradient == 0.0
    chosen = mg.why(mg.where(0.0, mg.exp(-z) * 2.0, z), z).findings[0]
    assert chosen.cause is Cause.ZERO_TIMES_INFINITY
    assert "branch" in chosen.remedy


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda x, y: mg.relu(x - 9) * y, "mul(relu(sub(x, 9))=0, y=0.7)"),
        (lambda x, y: mg.relu(Value(-1.0)) * y, "mul(0, y=0.7)"),
        (lambda x, y: mg.relu(mg.exp(x) - 9) * y, "mul(0, y=0.7)"),
        (lambda x, y: mg.relu(mg.sin(x) * mg.cos(y) * mg.tan(x)) * 0.0 * y, "mul(0, y=0.7)"),
    ],
)
def test_a_node_is_called_by_its_operands_which_are_called_by_short_expressions_of_labels(make, named):
    x, y = leaves(0.5, 0.7)
    x.label, y.label = "x", "y"
    assert mg.why(make(x, y)).summary.startswith(f"Gradients of {named}: ")


def test_the_advice_at_a_kink_is_a_smooth_form_near_it():
    x = Value(0.0, "x")
    found = mg.why(mg.abs(x)).findings[0]
    assert found.sentences == ["abs(x=0) stands on its kink, where its derivative is taken to be 0."]
    assert "sqrt(x * x + 1e-12) for abs(x)" in found.remedy
    assert mg.grad(lambda x: mg.sqrt(x * x + 1e-12))(1e-6) == pytest.approx(math.sqrt(0.5))


def test_the_advice_for_a_root_of_squares_at_0_is_to_keep_away_from_0():
    x, y = leaves(0.0, 0.0)
    found = mg.why(mg.sqrt(x * x + y * y)).findings[0]
    assert found.cause is Cause.ZERO_TIMES_INFINITY
    assert "sqrt(x + 1e-12) for sqrt(x)" in found.remedy
    assert mg.why(mg.sqrt(x * x + y * y + 1e-12), x).findings[0].gradient == 0.0


@pytest.mark.parametrize("function", [mg.sqrt, mg.log])
@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("relu", mg.relu),
        ("clip", lambda x: mg.clip(x, 0.0, 1.0)),
        ("where", lambda x: mg.where(mg.greater(x, 0.0), x, 0.0)),
        ("maximum", lambda x: mg.maximum(x, 0.0)),
        ("elu[0.0]", lambda x: mg.elu(x, 0.0)),
    ],
)
def test_an_infinite_slope_behind_a_mask_comes_with_the_safe_form(name, mask, function):
    x = Value(-1.0, "x")
    found = mg.why(function(mask(x)), x).findings[0]
    assert found.cause is Cause.ZERO_TIMES_INFINITY
    assert found.node.op.name == name
    fact, *others = found.sentences
    assert f"the gradient that reaches {name}(" in fact
    assert "∞, and its local derivative by x is 0" in fact
    (arises,) = others
    assert re.match(rf"The ∞ arises here: the local derivative of {function.name}\(([^ ]*\(x.*\)=)?0\)", arises)
    assert found.remedy.startswith(f"The 0 of {name} does not stop an ∞")
    form = f"where(x > 0, {function.name}(where(x > 0, x, 1)), 0)"
    assert form in found.remedy
    assert "mg.greater(x, 0)" in found.remedy
    inside = mg.greater(x, 0.0)
    assert mg.why(mg.where(inside, function(mg.where(inside, x, 1.0)), 0.0), x).findings[0].gradient == 0.0


@pytest.mark.parametrize(
    "formula",
    [lambda x: 0.0 * mg.log(x), lambda x: 0.0 * mg.log(1 + (x - 1)), lambda x: 0.0 * (1 / x - 1 / Value(3.0))],
)
def test_a_formula_that_is_as_infinite_there_is_no_remedy(formula):
    x = Value(0.0, "x")
    found = mg.why(formula(x), x).findings[0]
    assert found.cause is Cause.ZERO_TIMES_INFINITY
    assert "multiplied by 0" in found.remedy
    assert "Write " not in found.remedy
    guarded = mg.where(mg.greater(x, 0.0), mg.log(mg.where(mg.greater(x, 0.0), x, 1.0)), 0.0)
    assert mg.why(guarded * 0.0, x).findings[0].gradient == 0.0


# ---------------------------------------------------------------------------------------------------
# What is shown, and what is refused


def test_the_worst_comes_first():
    x, y, z = leaves(0.0, 1.0, 1e9)
    found = mg.why(mg.sqrt(x) + mg.stop_gradient(y) + mg.relu(z) * 1e-9 + y * z * 1e-20)
    assert [finding.size for finding in found.findings] == sorted(
        (finding.size for finding in found.findings), key=list(Size).index
    )
    assert found.size is Size.INFINITE


def test_many_causes_of_one_size_leave_room_for_the_other_sizes():
    stopped = [mg.relu(Value(-1.0 - k, f"r{k}")) if k % 2 else mg.floor(Value(0.5, f"f{k}")) for k in range(4)]
    others = [mg.cos(Value(0.0, "c")), mg.tanh(Value(1000.0, "t")), mg.stop_gradient(Value(1.0, "s"))]
    found = mg.why(mg.total([*stopped, *others, 1e-12 * Value(2.0, "v")]))
    assert {finding.size for finding in found.findings} == {Size.ZERO, Size.VANISHING}
    assert found.counts == {Size.ZERO: 7, Size.VANISHING: 1}
    assert "more have other causes" in str(found)


@pytest.mark.parametrize(
    ("gradient", "size"),
    [
        (math.nan, Size.NAN),
        (-math.inf, Size.INFINITE),
        (-0.0, Size.ZERO),
        (5e-324, Size.VANISHING),
        (-9.99e-7, Size.VANISHING),
        (1e-6, Size.FINE),
        (-1e6, Size.FINE),
        (1000000.5, Size.EXPLODING),
    ],
)
def test_a_gradient_is_suspicious_below_a_millionth_and_above_a_million(gradient, size):
    x = Value(1.0, "x")
    assert mg.why(x * gradient if gradient else x * 0.0, x).size is size is Size.of(gradient)


def test_an_explanation_speaks_for_its_worst_gradient():
    x, y = leaves(0.0, 1e9)
    found = mg.why(mg.sqrt(x) + mg.stop_gradient(y))
    assert [finding.size for finding in found.findings] == [Size.INFINITE, Size.ZERO]
    assert repr(found) == str(found)
    assert (found.size, found.cause, found.node) == (Size.INFINITE, Cause.INFINITE_DERIVATIVE, found.output.first)
    assert found.sentences == [sentence for finding in found.findings for sentence in finding.sentences]


def test_the_line_is_named_where_it_was_recorded():
    x = Value(0.0, "x")
    with mg.record_lines():
        y = mg.sqrt(x)
    assert "made at" in str(mg.why(y))
    assert "y = mg.sqrt(x)" in str(mg.why(y))


def test_a_healthy_gradient_is_said_to_be_one():
    x, y = leaves(2.0, 3.0)
    assert "no gradient is suspicious" in str(mg.why(x * y))
    assert mg.why(x * y).cause is Cause.NOTHING
    assert not mg.why(x * y).findings
    assert "The gradients of all 2 leaves lie between" in str(mg.why(x * y))
    assert "The gradient of the only leaf lies between" in str(mg.why(x * 2.0))


def test_an_output_without_a_graph_is_called_one():
    x = Value(1.0, "x")
    with mg.no_grad():
        y = x * x
    assert "within no_grad()" in mg.why(y, x).sentences[0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((Value(1.0, "w"),), ValueError, r"mg\.why\(output, leaf\)"),
        ((3.0,), TypeError, "got 3.0 of type float: call the function first"),
        (([],), ValueError, "got no output"),
        (([Value(1.0) * 2, "loss"],), TypeError, "got 'loss' of type str"),
        ((Value(1.0) * 2, "w"), TypeError, r"takes a Value for the leaf; got 'w' of type str"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_a_remedy(arguments, error, message):
    with pytest.raises(error, match=message):
        mg.why(*arguments)


EVIL = "<script>alert(1)</script>\x1b[31m\u202e{x}\n"


def test_labels_inject_nothing():
    from rich.console import Console

    evil = Value(0.0, EVIL)
    for output in (mg.sqrt(evil), mg.cos(evil), evil * Value(1.0, EVIL), mg.sqrt(evil) - mg.sqrt(evil)):
        found = mg.why(output)
        assert "<script>" not in found._repr_html_()
        terminal = io.StringIO()
        Console(width=80, file=terminal).print(found)
        for text in (str(found), found._repr_html_().split("</style>")[1], terminal.getvalue(), found.summary):
            assert "\x1b" not in text
            assert "\u202e" not in text
        assert r"</script>\x1b[31m\u202e{x}\n" in str(found)
        assert EVIL.splitlines()[0][:8] in html.unescape(found._repr_html_())


def test_a_notebook_shows_the_graph_with_the_place_marked():
    x, y = leaves(2.0, -3.0)
    page = mg.why(mg.relu(x * y) + y * 0.0)._repr_html_()
    assert "<svg" in page
    assert "init=&#x27;he&#x27;" in page


def test_a_notebook_shows_the_places_of_the_two_worst_findings():
    x, y, z = leaves(0.0, 1.0, 2.0)
    two = mg.sqrt(x) + mg.stop_gradient(y)
    assert mg.why(x * 1e9)._repr_html_().count("<div class=picture>") == 1
    assert mg.why(two)._repr_html_().count("<div class=picture>") == 2
    assert mg.why(two + 1e-9 * z)._repr_html_().count("<div class=picture>") == 2
    assert "<div class=picture>" not in mg.why(two, z)._repr_html_()  # there is no place
    assert [mg.why(z * z, leaf)._repr_html_().count("<blockquote class=calm>") for leaf in (z, x)] == [1, 0]


def test_the_text_the_colours_and_the_page_say_the_same():
    from rich.console import Console

    found = mg.why(mg.tanh(Value(50.0, "x")))
    terminal = io.StringIO()
    Console(width=200, file=terminal).print(found)
    page = html.unescape(found._repr_html_())
    for sentence in found.sentences:
        assert sentence in str(found)
        assert sentence in terminal.getvalue()
        assert sentence in page


def test_deep_graphs_are_explained_without_recursion():
    x = Value(0.5, "x")
    y = chain(x, lambda v: v * 0.999, 20_000)
    assert mg.why(y, x).cause is Cause.SMALL_FACTORS


def test_user_defined_operations_and_compiled_calls_are_explained():
    flat = Op("flat", lambda x: 0.0 * x, (lambda y, x: 0.0 * x,))
    x = Value(2.0, "x")
    assert mg.why(flat(x)).cause is Cause.FLAT
    pytest.importorskip("numpy")
    w = Value(-1.0, "w")
    loss = mg.compile(lambda x: mg.relu(w * x), batch=False)
    found = mg.why(loss(3.0), w)
    assert found.size is Size.ZERO
    assert "the function that was compiled" in found.sentences[0]


def test_where_an_infinity_came_up_is_looked_for_once_in_a_graph_that_has_many(monkeypatch):
    looked: list[int] = []
    find = causes.first_not_finite
    monkeypatch.setattr(causes, "first_not_finite", lambda *given: looked.append(0) or find(*given))
    x = y = mg.Value(0.3)
    for _ in range(4000):
        y = y * x + y
    assert "overflows to ∞" in str(mg.why(y))
    assert len(looked) == 1
