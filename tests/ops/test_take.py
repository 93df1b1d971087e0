"""``take``: one of several values by an index that is a number, or a Value; rows of tables; embeddings."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgrid as mg
from microgrid import losses, nn, ops
from microgrid.calculus import gradient_graph
from microgrid.engine import Value
from microgrid.strategies import Expression, Step

NONE = [3, -4, 0.5, math.nan, math.inf, -math.inf, 1e300]
"""No indices into three values."""


@pytest.mark.parametrize("index", [0, 2, -1, -3, True, 1.0, np.int64(2), np.float32(-2.0)])
def test_by_a_plain_number_it_is_the_entry_itself_as_in_a_list(index):
    values = [Value(1.0), Value(2.0), 3.0]
    assert mg.take(values, index) is values[int(index)]
    assert mg.take((values, "anything"), 0) is values


@pytest.mark.parametrize("index", NONE)
def test_a_plain_index_without_an_entry_is_an_error_that_names_it_and_the_count(index):
    with pytest.raises(IndexError) as raised:
        mg.take([1.0, 2.0, Value(3.0)], index)
    for part in (f"no entry {index!r} among 3", "from -3 to 2", "below 0 count from the end"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("values", "index", "error", "says"),
    [
        ([1.0], "one", TypeError, "'one'"),
        ([1.0], None, TypeError, "None"),
        (3.0, 0, TypeError, "3.0 as the list"),
        ({0: 1.0}, 0, TypeError, "as the list"),
        ([], 0, ValueError, "at least one value"),
        ([], Value(0.0), ValueError, "at least one value"),
        ([[1.0, 2.0], [3.0]], Value(0.0), ValueError, "rows of 1 and rows of 2"),
        ([[1.0, 2.0], 3.0], Value(0.0), ValueError, "numbers and rows of 2"),
        ([1.0, "two"], Value(0.0), TypeError, "'two'"),
    ],
)
def test_what_cannot_be_taken_is_an_error_that_names_it(values, index, error, says):
    with pytest.raises(error, match=says):
        mg.take(values, index)


@given(st.lists(st.floats(-9.0, 9.0), min_size=1, max_size=5), st.data())
def test_by_a_value_the_entry_is_chosen_and_has_the_whole_gradient(numbers, data):
    k = data.draw(st.integers(-len(numbers), len(numbers) - 1))
    xs, index = list(map(Value, numbers)), Value(float(k))
    y = mg.take(xs, index)
    (3.0 * y * y).backward()
    expected = [0.0] * len(xs)
    expected[k] = 6.0 * numbers[k]
    assert (y.data, [x.grad for x in xs], index.grad) == (numbers[k], expected, 0.0)
    assert mg.jvp(lambda v: mg.take(v, index), numbers, [1.0 + j for j in range(len(xs))])[1] == 1.0 + k % len(xs)


@pytest.mark.parametrize("index", NONE)
def test_by_a_value_that_is_no_index_it_is_nan_and_nothing_has_a_gradient(index):
    xs = [Value(1.0), Value(2.0), Value(3.0)]
    y = mg.take(xs, Value(index))
    y.backward()
    assert math.isnan(y.data)
    assert [x.grad for x in xs] == [0.0, 0.0, 0.0]


def test_nothing_flows_to_what_is_not_chosen_not_even_an_infinite_gradient():
    w, b = Value(0.0), Value(1.0)
    loss = mg.sqrt(mg.take([b, w], Value(1.0)))
    loss.backward()
    assert (w.grad, b.grad) == (math.inf, 0.0)
    assert [g.data for g in gradient_graph(loss, [w, b])] == [math.inf, 0.0]
    assert mg.jvp(lambda v: mg.take(v, Value(0.0)), [1.0, 2.0], [1.0, math.inf])[1] == 1.0


BEHIND = {
    "a root": lambda x, k: mg.sqrt(mg.take([0.0, x], k)),
    "two choices": lambda x, k: mg.sqrt(mg.take([mg.take([0.0, x], k), x * x], 0.0 * k)),
    "a product of choices": lambda x, k: mg.sqrt(mg.take([0.0, x], k) * mg.take([x, 0.0], 1.0 - k)),
    "beside what moves": lambda x, k: mg.sqrt(mg.take([0.0, x], k)) * 2.0 + x,
    "none chosen": lambda x, k: mg.sqrt(mg.take([x, x], k + 0.5)) + x,
}


@pytest.mark.parametrize("k", [0.0, 1.0])
@pytest.mark.parametrize("f", BEHIND.values(), ids=BEHIND)
def test_what_was_not_chosen_does_not_move_what_is_behind_in_any_mode(f, k):
    leaf, index = Value(0.25), Value(k)
    f(leaf, index).backward()
    assert math.isfinite(leaf.grad)
    forward = lambda x, k: mg.jvp(lambda t: f(t, k), x, 1.0)[1]  # noqa: E731
    assert forward(0.25, index).data == leaf.grad
    assert mg.grad(lambda x: f(x, index))(0.25).data == leaf.grad
    assert mg.compile(forward, batch=False).predict(0.25, k) == leaf.grad


def test_why_says_of_what_was_not_chosen_that_it_was_not():
    x, y = Value(0.0), Value(2.0)
    report = str(mg.why(mg.take([mg.sqrt(x), y * y], Value(1.0)), x))
    assert "does not pass on its operand" in report
    assert "nan" not in report


@pytest.mark.parametrize("extreme", [mg.maximum, mg.minimum])
def test_the_graph_of_gradients_of_an_extreme_grows_as_its_operands(extreme):
    def nodes(n):
        xs = [Value(float(k % 7)) for k in range(n)]
        gradients = gradient_graph(extreme(*xs), xs)
        assert sum(g.data for g in gradients) == pytest.approx(1.0)
        return len(mg.topological_order(*gradients))

    assert nodes(80) - nodes(40) == 40 * (nodes(11) - nodes(10))


def test_second_derivatives_go_through_the_choice():
    f = lambda v: mg.take([v[0] ** 3, v[0] * v[1]], Value(1.0)) + mg.take([v[0] ** 3, v[1]], Value(0.0))  # noqa: E731
    assert mg.hessian(f)([2.0, 5.0]) == [[12.0, 1.0], [1.0, 0.0]]


def test_an_index_may_change_and_forward_chooses_anew():
    xs, index = [Value(1.0), Value(2.0)], Value(0.0)
    y = mg.take(xs, index)
    index.data = -1.0
    y.forward()
    y.backward()
    assert (y.data, [x.grad for x in xs]) == (2.0, [0.0, 1.0])


@pytest.mark.parametrize("table", [[[1.0, 2.0], [3.0, 4.0]], ((1.0, 2.0), (3.0, 4.0)), np.array([[1.0, 2.0], [3, 4]])])
def test_of_a_table_it_is_the_row(table):
    assert [x.data for x in mg.take(table, Value(-1.0))] == list(mg.take(table, -1)) == [3.0, 4.0]
    deep = mg.take([table, table], Value(0.0))
    assert [[x.data for x in row] for row in deep] == [[1.0, 2.0], [3.0, 4.0]]


def test_a_choice_is_drawn_printed_checked_copied_and_pickled():
    xs = [Value(0.5, label="a"), Value(2.0, label="b")]
    index = Value(1.0, label="k")
    y = mg.take(xs, index) * 3.0
    assert "xₖ" in mg.draw(y).dot
    assert mg.check(lambda v: mg.take(v, index) ** 2, [0.5, 2.0])
    for twin in (copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        assert (twin.data, twin.first.op) == (6.0, ops.take_of(2))
    assert "mg.take([b, 2.0], a)" in str(Expression((1.0, 5.0), (Step(ops.take_of(2), (0, 1, 2.0)),)))


def test_an_embedding_has_a_row_for_each_token():
    model = nn.Embedding(5, 3, seed=0)
    assert repr(model) == "Embedding(5, 3)"
    assert len(model.parameters()) == 15
    assert [name for name, _ in model.named_parameters()][:4] == ["table.0.0", "table.0.1", "table.0.2", "table.1.0"]
    assert all(a is b for a, b in zip(model(2), model.table[2], strict=True))
    assert [[x.data for x in row] for row in model([4, Value(0.0)])] == [
        [x.data for x in model.table[k]] for k in (4, 0)
    ]
    model(2).clear()
    assert len(model.table[2]) == 3


def test_the_rows_of_an_embedding_are_normal_and_the_seed_gives_them_again():
    numbers = [p.data for p in nn.Embedding(100, 20, seed=1).parameters()]
    assert abs(np.mean(numbers)) < 0.1
    assert abs(np.std(numbers) - 1.0) < 0.1
    assert numbers == [p.data for p in nn.Embedding(100, 20, seed=1).parameters()]
    assert numbers != [p.data for p in nn.Embedding(100, 20, seed=2).parameters()]


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: nn.Embedding(0, 2), ValueError, "at least 1, got 0"),
        (lambda: nn.Embedding(2, -1), ValueError, "at least 1, got -1"),
        (lambda: nn.Embedding(2.5, 1), TypeError, "the number of tokens, count, must be a whole number, got 2.5"),
        (lambda: nn.Embedding(2, 1)(2), IndexError, "no entry 2 among 2"),
    ],
)
def test_an_embedding_that_cannot_be_is_an_error_that_names_it(wrong, error, says):
    with pytest.raises(error, match=says):
        wrong()


def test_a_language_model_of_two_tokens_learns_compiled_as_eagerly():
    def trained(compiled):
        embed, out = nn.Embedding(4, 3, seed=0), nn.Affine(3, 4, seed=1)
        loss = lambda token, label: losses.cross_entropy(out(embed(token)), label)  # noqa: E731
        parameters = [*embed.parameters(), *out.parameters()]
        tokens, labels = np.array([0, 3, 1, 3, 2]), np.array([1, 0, 2, 0, 3])
        step = mg.compile(loss)
        for _ in range(20):
            for p in parameters:
                p.grad = 0.0
            if compiled:
                total = step(tokens, labels)
            else:
                total = mg.mean([loss(int(t), int(y)) for t, y in zip(tokens, labels, strict=True)])
            total.backward()
            for p in parameters:
                p.data -= 0.5 * p.grad
        return total.data, [p.data for p in parameters]

    eager, compiled = trained(False), trained(True)
    assert eager[0] < 0.2
    assert compiled[0] == pytest.approx(eager[0], rel=1e-12)
    assert compiled[1] == pytest.approx(eager[1], rel=1e-11)
