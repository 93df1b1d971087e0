"""no_grad, enable_grad, record_lines and detect_anomaly as decorators, of functions of every kind."""

import asyncio
import inspect

import pytest

import microgrid as mg
from microgrid import Value
from microgrid.recording import is_watched

each_block = pytest.mark.parametrize("block", [mg.no_grad, mg.enable_grad, mg.record_lines, mg.detect_anomaly])


def what_is_recorded():
    """What is done to the nodes made here: whether they are cut, know their lines, raise for a nan."""
    y = Value(1.0) * 2.0
    try:
        raises = not mg.log(Value(-1.0))
    except mg.AnomalyError:
        raises = True
    return y.is_leaf, y.origin is not None, raises


def inside(block):
    with block():
        return what_is_recorded()


@each_block
def test_a_decorated_function_is_in_the_block_at_every_call_also_of_itself(block):
    @block()
    def compute(n):
        return compute(n - 1) if n else what_is_recorded()

    assert compute(3) == compute(0) == inside(block)


@each_block
def test_a_decorated_generator_is_in_the_block_whenever_it_goes_on_and_who_calls_it_never_is(block):
    closed = []

    @block()
    def steps(start):
        """Say what comes in."""
        sent = yield start, what_is_recorded()
        try:
            yield sent, what_is_recorded()
        except KeyError as error:
            yield type(error), what_is_recorded()
        try:
            yield "last"
        finally:
            closed.append(what_is_recorded())
        return "returned"

    assert inspect.isgeneratorfunction(steps)
    assert (steps.__name__, steps.__doc__) == ("steps", "Say what comes in.")
    outside, within = what_is_recorded(), inside(block)
    generator = steps("started")
    assert next(generator) == ("started", within)
    assert what_is_recorded() == outside
    assert generator.send("sent") == ("sent", within)
    assert generator.throw(KeyError()) == (KeyError, within)
    assert next(generator) == "last"
    generator.close()
    assert closed == [within]
    assert what_is_recorded() == outside
    generator = steps(None)
    assert [item for item in generator if item == "last"] == ["last"]
    with pytest.raises(StopIteration):
        next(generator)

    def delegating():
        return (yield from steps(None))

    generator = delegating()
    for _ in range(3):
        next(generator)
    with pytest.raises(StopIteration, match="returned"):
        next(generator)


@each_block
def test_an_error_of_a_decorated_generator_is_its_own(block):
    @block()
    def fail(error):
        yield
        raise error

    outside = what_is_recorded()
    for error in (KeyError("its own"), RuntimeError("its own"), KeyboardInterrupt("its own")):
        generator = fail(error)
        next(generator)
        with pytest.raises(type(error), match="its own"):
            next(generator)
        assert what_is_recorded() == outside


@each_block
def test_a_decorated_coroutine_is_in_the_block_and_what_runs_meanwhile_is_not(block):
    @block()
    async def compute(x):
        before = what_is_recorded()
        await asyncio.sleep(0)
        return x, before, what_is_recorded()

    async def other():
        await asyncio.sleep(0)
        return what_is_recorded()

    async def together():
        return await asyncio.gather(compute(1), other(), compute(2))

    assert inspect.iscoroutinefunction(compute)
    outside, within = what_is_recorded(), inside(block)
    assert asyncio.run(together()) == [(1, within, within), outside, (2, within, within)]
    assert what_is_recorded() == outside


@each_block
def test_what_a_block_cannot_decorate_is_refused_with_what_to_write(block):
    async def stream():
        yield 1.0

    class Model:
        pass

    for wrong in (stream, Model, 1.0, None):
        with pytest.raises(TypeError, match=rf"@{block.__name__}\(\) .* got .*; .*with {block.__name__}\(\):"):
            block()(wrong)
    with pytest.raises(TypeError, match=rf"{block.__name__}\(\)"):
        block(stream)


@each_block
def test_a_block_yields_nothing_and_lets_errors_pass(block):
    outside = what_is_recorded()
    with block() as nothing:
        assert nothing is None
    with pytest.raises(KeyError), block():
        raise KeyError
    assert what_is_recorded() == outside


def test_nodes_are_watched_by_what_looks_at_them_not_by_what_keeps_or_cuts_the_graph():
    blocks = (mg.no_grad, mg.enable_grad, mg.record_lines, mg.detect_anomaly)
    assert not is_watched()
    watched = []
    for block in blocks:
        with block():
            watched.append(is_watched())
    assert watched == [False, False, True, True]
    with mg.no_grad(), mg.detect_anomaly():
        assert is_watched()
