"""Recurrences as loops: the numbers of the engine, whatever a step reads; what is stored, and what is not."""

import loop_interpreter
import numpy as np
import pytest
from bounds import Graph
from hypothesis import given
from hypothesis import strategies as st
from programs import ROWS, wild_cases

import microgrid as mg
from microgrid.compiler.targets.native import engine, llvm
from microgrid.compiler.targets.native.loop_ir import For
from microgrid.compiler.targets.native.recurrence import recurrence, unsuited
from microgrid.compiler.targets.native.rows import unsupported
from tests.compiler.test_agreement import WEIGHTS, Tally, at, value_of
from tests.compiler.test_tape import random_graph, stages_of


def interpreted(program, theta, seed, arguments, outs):
    loop_interpreter.run(program, theta, seed, arguments, outs, 1)


def native(program, theta, seed, arguments, outs):
    host = engine.processor()
    counts = {"arguments": len(arguments), "outputs": len(outs)}
    assembly = llvm.emit(program, width=host.width, tile=8 * host.width, fused=host.fma, **counts)
    machine = engine.load(assembly.text, assembly.statements)
    memory = np.full(assembly.workspace + 8, np.nan)
    start = -memory.ctypes.data // 8 % 8  # at a multiple of 64 bytes
    arrays = [theta, seed, *arguments, *outs, memory[start:]]
    machine.function(len(arrays))(*[array.ctypes.data for array in arrays], 1)


RUNS = [interpreted, native]
NATIVE = [row for row in ROWS if unsupported(row) is None]


def run(how, outputs, inputs, seed=None, value=True, by_parameters=True, by_arguments=True):
    """Compute a graph as loops; return the loops, the parameters, and the outputs, then the gradients."""
    stages, parameters = stages_of(outputs, inputs)
    sizes = [len(parameters), *map(len, inputs)]
    wanted = {"value": value, "by_parameters": by_parameters, "by_arguments": by_arguments}
    program = recurrence(stages.rolled, sizes, seeded=seed is not None, **wanted)
    outs = [np.full(len(outputs), 7.0)] * value
    outs += [np.full(size, 7.0) for k, size in enumerate(sizes) if (by_arguments if k else by_parameters)]
    theta = np.array([parameter.data for parameter in parameters])
    arguments = [np.array([leaf.data for leaf in argument]) for argument in inputs]
    how(program, theta, np.array([1.0] if seed is None else seed), arguments, outs)
    return program, parameters, outs


W, X, C = 1.1, 0.3, 0.5


def chain(w, x, c, xs):
    for _ in range(50):
        x = mg.sin(x) * 1.1
    return [x]


def last_steps_read_from_outside(w, x, c, xs):
    f = [x]
    for _ in range(50):
        f.append(f[-1] * 1.1)
        f.append(mg.sin(f[-1]))
        f.append(f[-1] * w)
    return f[-5:-1]


def with_a_parameter(w, x, c, xs):
    y = x
    for _ in range(50):
        y = mg.sin(y * w) + x
    return [y]


def over_data(w, x, c, xs):
    h = 0.1 * x
    for t in xs:
        h = mg.tanh(w * h + c * t)
    return [h * 2.0]


def of_second_order(w, x, c, xs):
    f = [x, c]
    for _ in range(60):
        f.append(0.5 * f[-1] + 0.3 * mg.sin(f[-2]))
    return [f[-1], f[-2], f[30]]


def of_fifth_order(w, x, c, xs):
    f = list(xs[:5])
    for _ in range(60):
        f.append(mg.sin(f[-5]) + 0.1 * f[-1] * w)
    return [f[-1], f[20]]


def sum_of_all_states(w, x, c, xs):
    f = [x]
    for _ in range(60):
        f.append(mg.cos(f[-1]) * w)
    return [mg.total(f), f[-1]]


def states_read_by_another_loop(w, x, c, xs):
    f, z, back = [x], c, c
    for _ in range(40):
        f.append(mg.cos(f[-1]) * w)
    for t in f:
        z = z * t + mg.stop_gradient(t)
    for t in reversed(f):
        back = mg.sin(back) + t
    return [z, back, f[3], c]


def leapfrog(w, x, c, xs):
    q, p = x, c
    for _ in range(50):
        p = p - 0.01 * q
        q = q + 0.01 * p
    return [q * q + p * p]


def first_step_read_by_all(w, x, c, xs):
    y = first = mg.sin(x) * 1.1
    for _ in range(40):
        y = mg.sin(y) * 1.1 + first * 0.1
    return [y]


def with_branches(w, x, c, xs):
    for t in xs:
        x = mg.where(mg.less(x, 1.0), mg.relu(x) * 1.5 + t, mg.maximum(x - 1.0, c))
    return [x]


def cut_off(w, x, c, xs):
    y = c
    for t in xs:
        y = y * 0.5 + mg.stop_gradient(mg.sqrt(t - t)) * w + mg.floor(x)
    return [y + x]


@pytest.mark.parametrize("how", RUNS)
@pytest.mark.parametrize(
    "steps",
    [chain, last_steps_read_from_outside, with_a_parameter, over_data, of_second_order, of_fifth_order,
     sum_of_all_states, states_read_by_another_loop, leapfrog, first_step_read_by_all, with_branches, cut_off],
)  # fmt: skip
def test_loops_have_the_engines_numbers(how, steps):
    w, x, c, xs = mg.Value(W), mg.Value(X), mg.Value(C), [mg.Value(0.05 * k) for k in range(40)]
    outputs = steps(w, x, c, xs)
    seed = [1.0, -2.0, 0.5, 3.0][: len(outputs)]
    program, parameters, (values, by_theta, by_x, by_xs) = run(how, outputs, [[x], xs], seed)
    assert any(isinstance(s, For) and any(y.kind == "state" for y in s.carried) for s in program.before)
    mg.total([output * weight for output, weight in zip(outputs, seed, strict=True)]).backward()
    assert values == pytest.approx([output.data for output in outputs], rel=1e-12)
    for found, leaves in ((by_theta, parameters), (by_x, [x]), (by_xs, xs)):
        assert found == pytest.approx([leaf.grad for leaf in leaves], rel=1e-11, abs=1e-15)


@pytest.mark.parametrize("how", RUNS)
def test_random_programs_with_loops_agree_with_the_model(how):
    tally = Tally()

    chooses_nothing = wild_cases(rows=NATIVE).filter(lambda case: "mg.take" not in case.text)  # see ``unsuited``

    @given(chooses_nothing, st.sampled_from("fg"), st.booleans(), st.booleans())
    def check(case, name, by_parameters, by_arguments):
        parameters = [mg.Value(x) for x in case.parameters]
        inputs = [[mg.Value(t) for t in (x[0] if isinstance(x[0], list) else x[:1])] for x in case.batch]
        result = case.function(parameters, name)(inputs[0], inputs[1], inputs[2][0])
        outputs = [value_of(x) for x in (result if name == "g" else [result])]
        seed = WEIGHTS[: len(outputs)] if name == "g" else None
        wanted = {"by_parameters": by_parameters, "by_arguments": by_arguments}
        _, found, (values, *gradients) = run(how, outputs, inputs, seed, **wanted)
        whole = outputs[0]
        if seed is not None:
            whole = mg.total([x * weight for x, weight in zip(outputs, seed, strict=True)])
        graph = Graph([whole], compiled=True)
        tally.check(values, [Graph([x]).balls[x] for x in outputs], "value")
        leaves = [found] * by_parameters + inputs * by_arguments
        for gradient, mine in zip(gradients, leaves, strict=True):
            tally.check(gradient, at(graph.reverse(whole), mine), "gradient")

    check()
    tally.some_is_certain()


def test_a_chain_stores_one_number_a_step_and_multiplies_once_a_step_on_the_way_back():
    w, x = mg.Value(W), mg.Value(X)
    program, *_ = run(interpreted, chain(w, x, None, None), [[x]])
    assert [buffer.members for buffer in program.buffers if buffer.role == "local"] == [49]
    backward = next(s for s in program.before if isinstance(s, For) and s.backward)
    assert len(backward.body) == 2  # a slope is loaded, and multiplied by


def test_the_value_alone_stores_nothing():
    w, x = mg.Value(W), mg.Value(X)
    program, *_ = run(interpreted, chain(w, x, None, None), [[x]], by_parameters=False, by_arguments=False)
    assert [buffer.name for buffer in program.buffers] == ["theta", "X0", "out0"]


def test_a_recurrence_is_told_from_what_does_not_repeat():
    leaves = [mg.Value(0.1 * k) for k in range(1, 40)]
    assert unsuited(stages_of(chain(None, leaves[0], None, None))[0]) is None
    assert "hardly" in unsuited(stages_of([random_graph(3000, leaves, 100)])[0])
    assert "axis over samples" in unsuited(stages_of(chain(None, leaves[0], None, None), [leaves[:1]], True)[0])
    assert "arrays" in unsuited(stages_of([mg.total([mg.sin(leaf) for leaf in leaves])])[0])
