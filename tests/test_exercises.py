"""The exercises: right functions pass, usual mistakes are told apart."""

import math

import pytest

from microgrid import Value, exercises


def product(apple, apples, tax):
    return apples * tax, apple * tax, apple * apples


def relu(x, dout):
    return dout if x > 0 else 0.0


def softmax_with_loss(scores, target):
    powers = [math.exp(a - max(scores)) for a in scores]
    return [p / sum(powers) - (i == target) for i, p in enumerate(powers)]


def momentum(x, v, gradient, rate, kept):
    v = kept * v - rate * gradient
    return x + v, v


def central(f, x, scale=None):
    h = 1e-5 * (max(1.0, abs(x)) if scale is None else scale)
    return (f(x + h) - f(x - h)) / (2 * h)


def dead(outputs):
    return [i for i, column in enumerate(zip(*outputs, strict=True)) if not any(column)]


def attend(query, keys, values, scale=True):
    fit = [sum(q * k for q, k in zip(query, key, strict=True)) / (len(query) ** 0.5 if scale else 1) for key in keys]
    powers = [math.exp(f - max(fit)) for f in fit]
    return [
        sum(p * v for p, v in zip(powers, column, strict=True)) / sum(powers) for column in zip(*values, strict=True)
    ]


class Assigns:
    """A Value of a learner's, whose gradients are assigned, not added."""

    def __init__(self, data, parents=()):
        self.data, self.grad, self.parents = data, 0.0, parents

    def __add__(self, other):
        return Assigns(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        return Assigns(self.data * other.data, ((self, other.data), (other, self.data)))

    def backward(self, gradient=1.0):
        self.grad = gradient
        for parent, derivative in self.parents:
            parent.backward(gradient * derivative)


class Breadth:
    """A Value of a learner's, whose nodes send in the order in which a search in breadth finds them."""

    def __init__(self, data, parents=()):
        self.data, self.grad, self.parents = data, 0.0, parents

    def __add__(self, other):
        return Breadth(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        return Breadth(self.data * other.data, ((self, other.data), (other, self.data)))

    def backward(self):
        found = [self]
        self.grad = 1.0
        for node in found:
            for parent, derivative in node.parents:
                parent.grad += node.grad * derivative
                if parent not in found:
                    found.append(parent)


class Depth(Breadth):
    """The same, in the order of a search in depth."""

    def __add__(self, other):
        return Depth(self.data + other.data, ((self, 1.0), (other, 1.0)))

    def __mul__(self, other):
        return Depth(self.data * other.data, ((self, other.data), (other, self.data)))

    def backward(self):
        found = []

        def visit(node):
            if node not in found:
                found.append(node)
                for parent, _ in node.parents:
                    visit(parent)

        visit(self)
        self.grad = 1.0
        for node in found:
            for parent, derivative in node.parents:
                parent.grad += node.grad * derivative


@pytest.mark.parametrize(
    ("exercise", "solution"),
    [
        (exercises.value, Value),
        (exercises.by_hand, product),
        (exercises.relu, relu),
        (exercises.softmax_with_loss, softmax_with_loss),
        (exercises.momentum, momentum),
        (exercises.gradient_check, central),
        (exercises.dead_neurons, dead),
        (exercises.attention, attend),
    ],
)
def test_a_right_function_passes_all_cases(exercise, solution):
    answer = exercise(solution)
    assert answer
    assert repr(answer) == f"✓ {exercise.__name__}: right in all {answer.cases} cases"


@pytest.mark.parametrize(
    ("exercise", "mistake", "case", "hint"),
    [
        (exercises.by_hand, lambda a, n, t: (n * t, a * t, a + n), "(1, 1, 1)", "multiplies"),
        (exercises.by_hand, lambda a, n, t: (n, a, a * n), "(2, 1, 3)", "by the tax"),
        (exercises.by_hand, lambda a, n, t: n * t, "(1, 1, 1)", "multiplies"),
        (exercises.relu, lambda x, dout: dout * (x >= 0), "(0, 1)", "At 0 it is off"),
        (exercises.relu, lambda x, dout: float(x > 0), "(3, -0.5)", "dout passes"),
        (exercises.softmax_with_loss, lambda s, t: [1 / len(s)] * len(s), "([0, 0], 0)", "y − t"),
        (exercises.momentum, lambda x, v, g, r, m: (x - r * g, v), "(0, 0, 1, 0.1, 0.9)", "First the velocity"),
        (exercises.gradient_check, lambda f, x: (f(x + 1e-5) - f(x)) / 1e-5, "(parabola, 1)", "central"),
        (exercises.gradient_check, lambda f, x: (f(x + 1e-5) - f(x - 1e-5)) / 2e-5, "(log, 1e+08)", "large"),
        (
            exercises.gradient_check,
            lambda f, x: central(f, x, x),
            "(sin, 0)",
            "At x = 0",
        ),
        (exercises.gradient_check, lambda f, x: central(f, x, max(1.0, x)), "(parabola, -1e+08)", "large"),
        (exercises.dead_neurons, lambda o: [i for i, x in enumerate(o[0]) if x == 0], "([[0, 1], [2, 0]])", "column"),
        (exercises.attention, lambda q, k, v: attend(q, k, v, scale=False), "([1, 1]", "√d"),
    ],
)
def test_a_mistake_is_answered_by_the_first_case_that_shows_it_and_a_hint(exercise, mistake, case, hint):
    answer = exercise(mistake)
    assert not answer
    assert case in answer.case
    assert hint in answer.hint
    assert repr(answer).startswith(f"✗ {exercise.__name__}: <lambda>")


def test_a_value_that_assigns_gradients_is_told_to_add_them_and_the_wrong_leaf_is_marked():
    answer = exercises.value(Assigns)
    assert "add, do not assign" in answer.hint
    assert answer.wrong.label == "a"
    assert "<svg" in answer._repr_html_()


@pytest.mark.parametrize("searched", [Breadth, Depth])
def test_a_value_whose_nodes_send_before_all_have_sent_to_them_is_told_to_sort_the_graph(searched):
    answer = exercises.value(searched)
    assert "sort the graph" in answer.hint
    assert answer.yours.startswith("data = 18, a.grad = ")


@pytest.mark.parametrize(
    ("exercise", "mistake", "label"),
    [
        (exercises.by_hand, lambda a, n, t: (n * t, n * t, a * n), "apples"),
        (exercises.momentum, lambda x, v, g, r, m: (x + v, m * v - r * g), "new x"),
        (exercises.gradient_check, lambda f, x: (f(x + 1e-5) - f(x)) / 1e-5, "x"),
        (exercises.attention, lambda q, k, v: attend(q, k, v, scale=False), ""),
    ],
)
def test_the_picture_has_your_number_at_the_wrong_place(exercise, mistake, label):
    answer = exercise(mistake)
    assert answer.wrong.label == label
    assert f"yours: {answer.said}" in answer._repr_html_().partition("<svg")[2]


def test_a_function_that_returns_nothing_is_asked_for_its_return():
    assert exercises.relu(lambda x, dout: None).yours == "None: is there a return?"


def test_a_function_of_other_arguments_is_answered_without_a_line_of_the_exercise():
    answer = exercises.by_hand(lambda price: price)
    assert answer.yours.startswith("TypeError")
    assert "(line" not in answer.yours


def test_an_error_of_the_function_is_the_answer_with_its_line():
    def overflows(scores, target):
        powers = [math.exp(a) for a in scores]
        return [p / sum(powers) - (i == target) for i, p in enumerate(powers)]

    answer = exercises.softmax_with_loss(overflows)
    assert "OverflowError" in answer.yours
    assert "math.exp(a)" in answer.yours
    assert "subtract the largest" in answer.hint


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match=r"exercises\.relu takes your function or class itself; got 1\.0"):
        exercises.relu(1.0)
    with pytest.raises(TypeError, match=r"exercises\.value takes"):
        exercises.value(Value(1.0))
