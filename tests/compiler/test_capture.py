"""What a compiled function reads when it is traced and what changes afterwards: never an old number in silence."""

import collections
import contextvars
import dataclasses
import enum
import functools
import itertools
import operator
import os
import random
import secrets
import sys
import threading
import time
import types
import weakref

import numpy as np
import pytest

import microgrid as mg
from microgrid.compiler import TraceError, compile
from microgrid.nn import Affine, Dropout, Module, Sequential, Tanh

CASES = {}


def case(make):
    """Register ``make() -> (function of x, change())``: the change must be seen in the next call."""
    CASES[make.__name__] = make
    return make


def user_module(**names):
    module = types.ModuleType("settings")
    vars(module).update(names)
    return module


def in_a_module(text, **names):
    """Run text as a module of a user; return its namespace."""
    namespace = {"__name__": "a_program", "mg": mg, **names}
    exec(text, namespace)
    return namespace


@case
def a_closure_cell():
    scale = 2.0

    def change():
        nonlocal scale
        scale = 5.0

    return lambda x: x * scale, change


@case
def a_closure_cell_filled_later():
    def f(x):
        return x * 2.0 if scale is None else x * scale

    def change():
        nonlocal scale
        scale = 5.0

    scale = None
    return f, change


@case
def a_global():
    space = in_a_module("scale = 2.0\ndef f(x): return x * scale")
    return space["f"], lambda: space.update(scale=5.0)


@case
def a_global_that_hides_a_builtin():
    space = in_a_module("def f(x): return x * abs(-2.0)")
    return space["f"], lambda: space.update(abs=lambda x: 7.0)


@case
def a_global_of_a_function_that_is_called():
    space = in_a_module("scale = 2.0\ndef g(x): return x * scale\ndef f(x): return g(x)")
    return space["f"], lambda: space.update(scale=5.0)


@case
def a_function_that_is_replaced():
    space = in_a_module("def g(x): return x * 2.0\ndef f(x): return g(x)")
    return space["f"], lambda: space.update(g=lambda x: x * 5.0)


@case
def a_default():
    def f(x, scale=2.0):
        return x * scale

    return f, lambda: setattr(f, "__defaults__", (5.0,))


@case
def a_list_as_a_default():
    def f(x, scale=[2.0]):  # noqa: B006 - that is the case
        return x * scale[0]

    return f, lambda: f.__defaults__[0].__setitem__(0, 5.0)


@case
def a_keyword_default():
    def f(x, *, scale=2.0):
        return x * scale

    return f, lambda: f.__kwdefaults__.update(scale=5.0)


@case
def the_code_of_a_function():
    def f(x):
        return x * 2.0

    return f, lambda: setattr(f, "__code__", (lambda x: x * 5.0).__code__)


@case
def an_attribute_of_a_function():
    def f(x):
        return x * f.scale

    f.scale = 2.0
    return f, lambda: setattr(f, "scale", 5.0)


class Holder:
    def __init__(self, scale=2.0):
        self.scale = scale

    def __call__(self, x):
        return x * self.scale

    def method(self, x):
        return x * self.scale


@case
def an_attribute_of_an_object():
    holder = Holder()
    return lambda x: x * holder.scale, lambda: setattr(holder, "scale", 5.0)


@case
def an_attribute_read_by_getattr():
    holder, name = types.SimpleNamespace(scale=2.0), "scale"
    return lambda x: x * getattr(holder, name), lambda: setattr(holder, "scale", 5.0)


@case
def an_attribute_read_by_vars():
    holder = types.SimpleNamespace(scale=2.0)
    return lambda x: x * sum(vars(holder).values()), lambda: setattr(holder, "more", 5.0)


@case
def an_attribute_read_by_attrgetter():
    holder, get = types.SimpleNamespace(scale=2.0), operator.attrgetter("scale")
    return lambda x: x * get(holder), lambda: setattr(holder, "scale", 5.0)


@case
def a_method():
    holder = Holder()
    return holder.method, lambda: setattr(holder, "scale", 5.0)


@case
def a_callable_object():
    holder = Holder()
    return holder, lambda: setattr(holder, "scale", 5.0)


@case
def a_method_that_is_called_by_a_method():
    class Outer:
        def __init__(self):
            self.inner = Holder()

        def _each(self, x):
            return self.inner.method(x)

        def loss(self, x):
            return self._each(x)

    outer = Outer()
    return outer.loss, lambda: setattr(outer.inner, "scale", 5.0)


@case
def an_object_that_is_replaced():
    space = types.SimpleNamespace(inner=Holder())
    return lambda x: space.inner(x), lambda: setattr(space, "inner", Holder(5.0))


@case
def a_class_attribute():
    class Scaled:
        scale = 2.0

    scaled = Scaled()
    return lambda x: x * scaled.scale, lambda: setattr(Scaled, "scale", 5.0)


@case
def an_attribute_of_a_class_itself():
    class Scaled:
        scale = 2.0

    return lambda x: x * Scaled.scale, lambda: setattr(Scaled, "scale", 5.0)


@case
def an_inherited_attribute():
    class Base:
        scale = 2.0

    class Derived(Base):
        pass

    derived = Derived()
    return lambda x: x * derived.scale, lambda: setattr(Base, "scale", 5.0)


@case
def a_class_attribute_that_the_object_then_hides():
    class Scaled:
        scale = 2.0

    scaled = Scaled()
    return lambda x: x * scaled.scale, lambda: setattr(scaled, "scale", 5.0)


@case
def a_method_that_is_replaced_in_its_class():
    class Scaled:
        def apply(self, x):
            return x * 2.0

    scaled = Scaled()
    return lambda x: scaled.apply(x), lambda: setattr(Scaled, "apply", lambda self, x: x * 5.0)


@case
def a_method_that_is_replaced_in_its_object():
    class Scaled:
        def apply(self, x):
            return x * 2.0

    scaled = Scaled()
    return lambda x: scaled.apply(x), lambda: setattr(scaled, "apply", lambda x: x * 5.0)


@case
def the_class_of_an_object():
    class Two(Holder):
        def __call__(self, x):
            return x * 7.0

    holder = Holder()
    return lambda x: holder(x), lambda: setattr(holder, "__class__", Two)


@case
def a_property():
    class Scaled:
        def __init__(self):
            self._half = 1.0

        @property
        def scale(self):
            return 2.0 * self._half

    scaled = Scaled()
    return lambda x: x * scaled.scale, lambda: setattr(scaled, "_half", 5.0)


@case
def a_static_and_a_class_method():
    class Scaled:
        half = 1.0

        @classmethod
        def scale(cls):
            return cls.half * cls.two()

        @staticmethod
        def two():
            return 2.0

    return lambda x: x * Scaled.scale(), lambda: setattr(Scaled, "half", 5.0)


@case
def a_descriptor():
    class Const:
        def __init__(self, number):
            self.number = number

        def __get__(self, instance, owner):
            return self.number

    class Scaled:
        scale = Const(2.0)

    scaled = Scaled()
    return lambda x: x * scaled.scale, lambda: setattr(vars(Scaled)["scale"], "number", 5.0)


@case
def slots():
    class Scaled:
        __slots__ = ("scale",)

    scaled = Scaled()
    scaled.scale = 2.0
    return lambda x: x * scaled.scale, lambda: setattr(scaled, "scale", 5.0)


@case
def inherited_slots():
    class Base:
        __slots__ = ("scale",)

    class Derived(Base):
        __slots__ = ()

    derived = Derived()
    derived.scale = 2.0
    return lambda x: x * derived.scale, lambda: setattr(derived, "scale", 5.0)


@case
def a_dataclass():
    @dataclasses.dataclass
    class Config:
        scale: float = 2.0

    config = Config()
    return lambda x: x * config.scale, lambda: setattr(config, "scale", 5.0)


@case
def a_dataclass_as_a_dict():
    @dataclasses.dataclass
    class Config:
        scale: float = 2.0

    config = Config()
    return lambda x: x * dataclasses.asdict(config)["scale"], lambda: setattr(config, "scale", 5.0)


@case
def a_list():
    scales = [2.0]
    return lambda x: x * scales[0], lambda: scales.__setitem__(0, 5.0)


@case
def a_list_that_grows():
    scales = [2.0]
    return lambda x: x * sum(scales), lambda: scales.append(5.0)


@case
def nested_containers():
    scales = {"a": [({"b": [2.0]},)]}
    return lambda x: x * scales["a"][0][0]["b"][0], lambda: scales["a"][0][0]["b"].__setitem__(0, 5.0)


@case
def a_dict():
    scales = {"a": 2.0}
    return lambda x: x * scales["a"], lambda: scales.update(a=5.0)


@case
def the_order_of_a_dict():
    scales = {"a": 2.0, "b": 5.0}
    return lambda x: x * next(iter(scales.values())), lambda: scales.update(a=scales.pop("a"))


@case
def a_set():
    scales = {2.0}
    return lambda x: x * sum(scales), lambda: scales.add(5.0)


@case
def a_deque():
    scales = collections.deque([2.0])
    return lambda x: x * scales[0], lambda: scales.appendleft(5.0)


@case
def a_default_dict():
    scales = collections.defaultdict(lambda: 2.0)
    return lambda x: x * scales["a"], lambda: scales.update(a=5.0)


@case
def a_user_dict():
    scales = collections.UserDict(a=2.0)
    return lambda x: x * scales["a"], lambda: scales.update(a=5.0)


@case
def a_list_that_holds_itself():
    scales = [2.0]
    scales.append(scales)
    return lambda x: x * scales[1][0], lambda: scales.__setitem__(0, 5.0)


@case
def a_method_of_a_container():
    get = {"a": 2.0}.get
    return lambda x: x * get("a"), lambda: get.__self__.update(a=5.0)


@case
def a_lambda_in_a_list():
    scale = 2.0
    functions = [lambda x: x * scale]

    def change():
        nonlocal scale
        scale = 5.0

    return lambda x: functions[0](x), change


@case
def a_nested_function():
    scale = 2.0

    def f(x):
        def inner(y):
            return y * scale

        return inner(x)

    def change():
        nonlocal scale
        scale = 5.0

    return f, change


@case
def a_partial():
    scales = [2.0]
    return functools.partial(lambda s, x: x * s[0], scales), lambda: scales.__setitem__(0, 5.0)


@case
def a_keyword_of_a_partial():
    f = functools.partial(lambda x, s: x * s, s=2.0)
    return f, lambda: f.keywords.update(s=5.0)


@case
def a_decorated_function():
    scale = 2.0

    def f(x):
        return x * scale

    def twice(function):
        @functools.wraps(function)
        def wrapped(x):
            return function(function(x))

        return wrapped

    def change():
        nonlocal scale
        scale = 5.0

    return twice(f), change


@case
def a_compiled_function_inside():
    holder = Holder()
    inner = compile(lambda x: x * holder.scale, batch=False)
    return lambda x: inner(x), lambda: setattr(holder, "scale", 5.0)


@case
def an_attribute_of_a_module():
    settings = user_module(scale=2.0)
    return lambda x: x * settings.scale, lambda: setattr(settings, "scale", 5.0)


@case
def a_module_imported_within():
    sys.modules["settings_of_a_test"] = user_module(scale=2.0)
    space = in_a_module("def f(x):\n    import settings_of_a_test\n    return x * settings_of_a_test.scale")
    return space["f"], lambda: setattr(sys.modules["settings_of_a_test"], "scale", 5.0)


@case
def a_name_imported_within():
    sys.modules["settings_of_a_test"] = user_module(scale=2.0)
    space = in_a_module("def f(x):\n    from settings_of_a_test import scale\n    return x * scale")
    return space["f"], lambda: setattr(sys.modules["settings_of_a_test"], "scale", 5.0)


@case
def a_variable_of_the_environment():
    os.environ["SCALE_OF_A_TEST"] = "2.0"
    return lambda x: x * float(os.environ["SCALE_OF_A_TEST"]), lambda: os.environ.update(SCALE_OF_A_TEST="5.0")


@case
def a_function_with_a_cache_that_is_cleared():
    holder = Holder()
    scale = functools.lru_cache(lambda: holder.scale)

    def change():
        holder.scale = 5.0
        scale.cache_clear()

    return lambda x: x * scale(), change


@case
def a_cached_property():
    class Scaled(Holder):
        twice = functools.cached_property(lambda self: 2.0 * self.scale)

    scaled = Scaled()
    return lambda x: x * scaled.twice, lambda: setattr(scaled, "twice", 5.0)


@case
def a_partial_method():
    class Scaled(Holder):
        def times(self, x, scale):
            return x * scale[0]

        doubled = functools.partialmethod(times, scale=[2.0])

    scaled = Scaled()
    return lambda x: scaled.doubled(x), lambda: vars(Scaled)["doubled"].keywords["scale"].__setitem__(0, 5.0)


@case
def a_special_method():
    class Scaled(Holder):
        def __rmul__(self, x):
            return x * self.scale

        def __getitem__(self, k):
            return self.more[k]

        more = (1.0, 2.0)

    scaled = Scaled()
    return lambda x: x * scaled[1] + scaled.__rmul__(x), lambda: setattr(Scaled, "more", (1.0, 5.0))


@case
def the_length_of_a_list():
    length = [1.0, 2.0].__len__
    return lambda x: x * length(), lambda: length.__self__.append(5.0)


@case
def an_object_made_within():
    class Scaled:
        half = 1.0

        def __init__(self):
            self.scale = 2.0 * self.half

    return lambda x: x * Scaled().scale, lambda: setattr(Scaled, "half", 5.0)


@case
def a_match_on_text():
    holder = types.SimpleNamespace(kind="tanh")

    def f(x):
        match holder.kind:
            case "tanh":
                return mg.tanh(x)
            case _:
                return mg.sin(x)

    return f, lambda: setattr(holder, "kind", "sin")


@case
def an_attribute_read_by_a_partial():
    holder = types.SimpleNamespace(scale=2.0)
    read = functools.partial(getattr, holder, "scale")
    return lambda x: x * read(), lambda: setattr(holder, "scale", 5.0)


@case
def a_match_on_a_class():
    @dataclasses.dataclass
    class Config:
        scale: float

    config = Config(2.0)

    def f(x):
        match config:
            case Config(scale):
                return x * scale

    return f, lambda: setattr(config, "scale", 5.0)


@case
def an_attribute_that_a_module_computes():
    settings = user_module(half=1.0)
    exec("def __getattr__(name):\n    return 2.0 * half", vars(settings))
    return lambda x: x * settings.scale, lambda: setattr(settings, "half", 5.0)


@case
def an_attribute_that_a_module_then_has():
    settings = user_module()

    def f(x):
        try:
            return x * settings.scale
        except AttributeError:
            return x

    return f, lambda: setattr(settings, "scale", 5.0)


@case
def what_super_leads_to():
    class Base:
        def scale(self):
            return 2.0

    class Derived(Base):
        def scale(self):
            return super().scale() + 1.0

    derived = Derived()
    return lambda x: x * derived.scale(), lambda: setattr(Base, "scale", lambda self: 5.0)


@case
def a_comprehension_over_a_global():
    space = in_a_module("scales = [1.0, 2.0]\ndef f(x): return sum([x * s for s in scales])")
    return space["f"], lambda: space["scales"].append(5.0)


@case
def an_attribute_that_was_not_there():
    holder = Holder()

    def f(x):
        try:
            return x * holder.more
        except AttributeError:
            return x

    return f, lambda: setattr(holder, "more", 5.0)


@case
def an_attribute_that_is_deleted():
    class Scaled:
        scale = 5.0

    scaled = Scaled()
    scaled.scale = 2.0
    return lambda x: x * scaled.scale, lambda: delattr(scaled, "scale")


@case
def what_each_thread_has():
    local = threading.local()
    local.scale = 2.0
    return lambda x: x * local.scale, lambda: setattr(local, "scale", 5.0)


@case
def an_attribute_of_a_metaclass():
    class Meta(type):
        scale = 2.0

    class Scaled(metaclass=Meta):
        pass

    return lambda x: x * Scaled.scale, lambda: setattr(Meta, "scale", 5.0)


@case
def a_gradient():
    w = mg.Value(3.0)
    w.grad = 2.0
    return lambda x: x * w.grad, lambda: setattr(w, "grad", 5.0)


@case
def a_view_of_a_dict():
    scales = {"a": 2.0}
    values = scales.values()
    return lambda x: x * sum(values), lambda: scales.update(a=5.0)


@case
def a_proxy_of_a_dict():
    scales = {"a": 2.0}
    proxy = types.MappingProxyType(scales)
    return lambda x: x * proxy["a"], lambda: scales.update(a=5.0)


@case
def the_order_of_an_ordered_dict():
    scales = collections.OrderedDict(a=2.0, b=5.0)
    return lambda x: x * next(iter(scales.values())), lambda: scales.move_to_end("a")


@case
def an_array():
    scales = np.array([2.0, 3.0])
    return lambda x: x * scales[0], lambda: scales.__setitem__(0, 5.0)


@case
def a_large_array():
    scales = np.full(300_000, 2.0)
    return lambda x: x * scales[-1], lambda: scales.__setitem__(-1, 5.0)


@case
def a_view_of_an_array():
    scales = np.array([2.0, 3.0])
    view = scales[:1]
    return lambda x: x * view[0], lambda: scales.__setitem__(0, 5.0)


@case
def an_array_of_values():
    scales = np.array([mg.Value(2.0), mg.Value(3.0)])
    return lambda x: x * scales[0], lambda: scales.__setitem__(0, mg.Value(5.0))


@case
def an_array_of_bytes():
    scales = bytearray(b"\x02")
    return lambda x: x * scales[0], lambda: scales.__setitem__(0, 5)


@case
def text():
    holder = types.SimpleNamespace(activation="tanh")
    return lambda x: getattr(mg, holder.activation)(x), lambda: setattr(holder, "activation", "sin")


@case
def a_flag():
    holder = types.SimpleNamespace(on=False)
    return lambda x: x * 5.0 if holder.on else x, lambda: setattr(holder, "on", True)


@case
def the_sign_of_zero():
    holder = types.SimpleNamespace(zero=0.0)
    return lambda x: mg.atan2(holder.zero, -x), lambda: setattr(holder, "zero", -0.0)


@case
def an_enumeration():
    class Kind(enum.Enum):
        TWO = 2.0
        FIVE = 5.0

    holder = types.SimpleNamespace(kind=Kind.TWO)
    return lambda x: x * holder.kind.value, lambda: setattr(holder, "kind", Kind.FIVE)


@case
def a_named_tuple():
    pair = collections.namedtuple("pair", "scale")
    holder = types.SimpleNamespace(pair=pair(2.0))
    return lambda x: x * holder.pair.scale, lambda: setattr(holder, "pair", pair(5.0))


@case
def a_leaf():
    holder = {"w": mg.Value(2.0)}
    return lambda x: x * holder["w"], lambda: holder.update(w=mg.Value(5.0))


@case
def a_leaf_of_the_same_number():
    w, v = mg.Value(2.0), mg.Value(2.0)
    scales = [w, v]

    def change():
        scales[0] = v
        v.data = 5.0

    return lambda x: x * scales[0], change


@case
def what_a_weak_reference_leads_to():
    holder = Holder()
    there = weakref.ref(holder)
    return lambda x: x * there().scale, lambda: setattr(holder, "scale", 5.0)


@case
def a_context_variable():
    scale = contextvars.ContextVar("scale", default=2.0)
    return lambda x: x * scale.get(), lambda: scale.set(5.0) and None


@case
def the_mode_of_a_module():
    class Noisy(Module):
        def forward(self, x):
            return x * 5.0 if self.training else x

    noisy = Noisy()
    return lambda x: noisy(x), noisy.eval


@case
def a_parameter_that_is_added_to_a_module():
    class Sized(Module):
        def __init__(self):
            self.w = mg.Value(2.0)

        def forward(self, x):
            return x * mg.total([p * p for p in self.parameters()])

    sized = Sized()
    return lambda x: sized(x), lambda: setattr(sized, "v", mg.Value(5.0))


@case
def a_layer_of_a_network():
    model = Sequential(Affine(1, 2, seed=0), Tanh(), Affine(2, 1, seed=1))
    return lambda x: model([x]), lambda: model.modules.__setitem__(1, mg.nn.Sigmoid())


@case
def a_weight_of_a_network():
    model = Sequential(Affine(1, 2, seed=0), Tanh(), Affine(2, 1, seed=1))
    return lambda x: model([x]), lambda: model.modules[0].neurons[1].w.__setitem__(0, mg.Value(3.0))


@case
def an_attribute_of_a_neuron():
    model = Affine(1, 2, seed=0)
    return lambda x: mg.total(model([x])), lambda: setattr(model.neurons[1], "nonlin", True)


def eager(f, xs):
    return mg.mean([f(mg.Value(x)) for x in xs]).data


X = [0.5, -1.25]


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_what_a_compiled_function_has_read_and_what_then_changes_is_noticed(make):
    f, change = make()
    compiled = compile(f)
    before = compiled(X).data
    assert before == pytest.approx(eager(f, X), rel=1e-14)
    change()
    after = eager(f, X)
    assert after != before, "the case must make a difference"
    assert compiled(X).data == pytest.approx(after, rel=1e-14)
    assert compiled(X).data == pytest.approx(after, rel=1e-14)


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_what_does_not_change_is_traced_once(make):
    f, _ = make()
    nodes = []
    compiled = compile(f)
    compiled(X)
    kernel = compiled.kernel(X)
    with mg.recording.watch(nodes.append):
        assert all(compiled.kernel(X) is kernel for _ in range(3))
    assert not nodes


# -- states seen before, and what does not matter -----------------------------------------------------------


def test_a_state_that_was_seen_before_has_its_kernel_still():
    model = Sequential(Affine(1, 2, seed=0), Dropout(0.5, seed=0), Affine(2, 1, seed=1))
    compiled = compile(lambda x: model([x]))
    training, use = compiled.kernel(X), None
    for _ in range(3):
        model.eval()
        assert use in (None, compiled.kernel(X))
        use = compiled.kernel(X)
        model.train()
        assert compiled.kernel(X) is training
    assert use is not training


def test_what_the_function_does_not_name_may_change_without_a_new_trace():
    class Trainer:
        def __init__(self):
            self.w, self.losses, self.step = mg.Value(2.0), [], 0

        def loss(self, x):
            return self.w * x

        def train(self, compiled):
            self.losses.append(compiled(X).data)
            self.step += 1

    trainer = Trainer()
    compiled = compile(trainer.loss)
    kernel = compiled.kernel(X)
    for _ in range(3):
        trainer.train(compiled)
        assert compiled.kernel(X) is kernel


def test_a_log_of_numbers_on_a_module_is_no_parameter():
    class Logging(Module):
        def __init__(self):
            self.w, self.losses, self._private, self.step = [mg.Value(2.0)], [1.0], [], 0

        def forward(self, x):
            return mg.total([p * p for p in self.parameters()]) * x

    model = Logging()
    compiled = compile(lambda x: model(x))
    kernel = compiled.kernel(X)
    model.losses.append(2.0)
    model._private.append(mg.Value(1.0))
    model.step += 1
    assert compiled.kernel(X) is kernel
    model.w.append(mg.Value(3.0))
    assert compiled(X).data == eager(lambda x: 13.0 * x, X)
    model.more = {"v": mg.Value(1.0)}
    assert compiled(X).data == eager(lambda x: 14.0 * x, X)


def test_a_function_that_is_traced_at_every_call_says_why():
    holder = types.SimpleNamespace(step=0)
    compiled = compile(lambda x: x * holder.step)

    def calls(n):
        for _ in range(n):
            holder.step += 1
            assert compiled(X).data == eager(lambda x: x * holder.step, X)

    calls(8)
    with pytest.warns(UserWarning, match=r"anew at each of its last 8 calls.*: step, 8 before and 9 after.*argument"):
        calls(1)
    calls(3)


def test_a_global_with_the_name_of_an_attribute_is_another_thing():
    space = in_a_module("losses = []\ndef f(x): return mg.losses.binary_cross_entropy(x, 1.0)")
    compiled = compile(space["f"])
    kernel = compiled.kernel(X)
    space["losses"].append(1.0)
    assert compiled.kernel(X) is kernel


def test_an_equal_number_is_no_change():
    holder = types.SimpleNamespace(scale=float("2.5"), name="a")
    compiled = compile(lambda x: x * holder.scale * len(holder.name))
    kernel = compiled.kernel(X)
    holder.scale, holder.name = float("2.5"), "".join("a")
    assert compiled.kernel(X) is kernel


def test_a_result_that_the_function_keeps_on_its_object_does_no_harm():
    class Layer(Module):
        def __init__(self):
            self.w = mg.Value(2.0)

        def forward(self, x):
            self.out = self.w * x
            return self.out

    layer = Layer()
    compiled = compile(lambda x: layer(x))
    kernel = compiled.kernel(X)
    assert compiled(X).data == eager(lambda x: 2.0 * x, X)
    assert compiled.kernel(X) is kernel


def test_nothing_of_the_user_runs_when_a_call_looks_for_changes():
    usual = sys.getswitchinterval()

    def looking():
        return sys.getswitchinterval() != usual

    class Watched:
        def __init__(self):
            self._scale = 2.0

        @property
        def scale(self):
            assert not looking()
            return self._scale

        def __getattr__(self, name):
            assert not looking()
            raise AttributeError(name)

        def __getattribute__(self, name):
            assert not looking()
            return super().__getattribute__(name)

        def __eq__(self, other):
            assert not looking()
            return True

        __hash__ = None

    watched = Watched()
    compiled = compile(lambda x: x * watched.scale)
    kernel = compiled.kernel(X)
    sys.setswitchinterval(2 * usual)
    try:
        assert compiled.kernel(X) is kernel
    finally:
        sys.setswitchinterval(usual)


# -- what no program can repeat ---------------------------------------------------------------------------


class Counter:
    def __init__(self):
        self.n = 0

    def __call__(self, x):
        self.n += 1
        return x * self.n


def counting_in_a_closure():
    n = 0

    def f(x):
        nonlocal n
        n += 1
        return x * n

    return f


def counting_in_a_list():
    seen = []

    def f(x):
        seen.append(1)
        return x * len(seen)

    return f


def from_an_iterator():
    numbers = itertools.count(1)
    return lambda x: x * next(numbers)


def from_a_generator():
    numbers = (float(k) for k in range(1000))
    return lambda x: x * next(numbers)


def drawn_by(generator):
    return lambda x: x + generator.random()


DRAWS = {
    "random": lambda: lambda x: x * random.random(),
    "random.gauss": lambda: lambda x: x * random.gauss(0.0, 1.0),
    "a user's generator": lambda: drawn_by(random.Random(0)),
    "a new generator": lambda: lambda x: x * random.Random().random(),
    "the system's generator": lambda: lambda x: x * random.SystemRandom().random(),
    "numpy.random": lambda: lambda x: x * np.random.normal(),
    "a generator of NumPy": lambda: drawn_by(np.random.default_rng(0)),
    "a new generator of NumPy": lambda: lambda x: x * np.random.default_rng().random(),
    "an old generator of NumPy": lambda: drawn_by(types.SimpleNamespace(random=np.random.RandomState(0).random_sample)),
    "secrets": lambda: lambda x: x * secrets.randbelow(10**12),
}
COUNTS = {
    "an attribute": Counter,
    "a closure": counting_in_a_closure,
    "a list": counting_in_a_list,
    "an iterator": from_an_iterator,
    "a generator": from_a_generator,
    "the time": lambda: lambda x: x * time.perf_counter(),
    "input": lambda: lambda x: x * float(input()),
    "a file": lambda: lambda x: x * float(open("number.txt").read()),  # noqa: SIM115 - it is not reached
}


@pytest.mark.parametrize("make", DRAWS.values(), ids=DRAWS)
def test_drawing_is_refused_with_the_remedy(make):
    with pytest.raises(TraceError, match=r"draws? random numbers.*Dropout.*argument"):
        compile(make())(X)


def test_a_refused_draw_leaves_the_generators_as_they_were():
    generator = random.Random(3)
    expected = random.Random(3).random()
    with pytest.raises(TraceError):
        compile(drawn_by(generator))(X)
    assert generator.random() == expected


@pytest.mark.parametrize("make", COUNTS.values(), ids=COUNTS)
def test_counting_reading_and_the_time_are_refused_with_the_remedy(make):
    with pytest.raises(TraceError, match="argument"):
        compile(make())(X)


def test_a_count_that_the_result_does_not_depend_on_is_no_harm():
    seen = []

    def f(x):
        seen.append("called")
        time.perf_counter()
        return x * 2.0

    compiled = compile(f)
    assert [compiled(X).data for _ in range(3)] == [eager(lambda x: x * 2.0, X)] * 3


LAYER = Affine(1, 1, seed=0)
READS = {
    "data": lambda w: lambda x: x * w.data,
    "data of a result": lambda w: lambda x, s=w * w: x * s.data,
    "a branch": lambda w: lambda x: x if w > 0 else -x,
    "its truth": lambda w: lambda x: x if w else -x,
    "equality": lambda w: lambda x: x if w == 2.0 else -x,
    "a comparison with a number": lambda w: lambda x: x if w <= 1.0 else -x,
    "its backward()": lambda w: lambda x: [(w * w).backward(), x * w.grad][1],
    "the state of a module": lambda w, m=LAYER: lambda x: x * m.state_dict()["neurons.0.b"],
}


@pytest.mark.parametrize("make", READS.values(), ids=READS)
def test_the_number_of_a_parameter_is_not_frozen_in_silence(make):
    f = make(mg.Value(2.0, label="w"))
    with pytest.raises(TraceError, match=r"at .*test_capture.py:\d+.*mg\.(stop_gradient|where|grad)"):
        compile(f)(X)


def test_backward_of_a_traced_value_is_refused_and_derivatives_of_plain_numbers_are_not():
    def f(x):
        x.backward()
        return x

    with pytest.raises(TraceError, match=r"backward\(\) of a traced value at .*mg\.grad"):
        compile(f)(X)
    slope = lambda x: x * mg.grad(lambda a: a**3)(2.0)  # noqa: E731
    assert compile(slope)(X).data == eager(slope, X)


def test_a_gradient_of_the_package_within_does_not_make_parameters_gradients_matter():
    w = mg.Value(2.0)
    compiled = compile(lambda x: mg.grad(lambda a: a * a * w)(x))
    kernel = compiled.kernel(X)
    compiled(X).backward()
    assert w.grad != 0.0
    assert compiled.kernel(X) is kernel


def test_a_leaf_that_the_function_itself_makes_may_be_read():
    def f(x):
        offset = mg.Value(2.0)
        return x * offset.data

    assert compile(f)(X).data == eager(f, X)


# -- dropping at random -------------------------------------------------------------------------------------


def dropping_model(seed):
    return Sequential(Affine(2, 5, seed=0), Tanh(), Dropout(0.4, seed=seed), Affine(5, 3, seed=1), Dropout(0.2))


@pytest.mark.parametrize("reduce", ["mean", "sum", None])
@pytest.mark.parametrize("seed", [3, None])
def test_dropout_draws_for_every_sample_and_call_what_eager_code_draws(reduce, seed):
    xs = np.random.default_rng(0).normal(size=(6, 2))

    def by_hand(model, xs):
        each = [mg.total(model(list(x))) for x in xs]
        return {"mean": mg.mean, "sum": mg.total, None: list}[reduce](each)

    results = []
    for way in ("eager", "compiled"):
        random.seed(8)
        model = dropping_model(seed)
        f = compile(lambda x, model=model: mg.total(model(x)), reduce=reduce)
        calls = []
        for part in (xs, xs[:4], xs):
            result = by_hand(model, part) if way == "eager" else f(part)
            mg.mean(result if reduce is None else [result]).backward()
            calls.append([v.data for v in result] if reduce is None else result.data)
        model.eval()
        result = by_hand(model, xs) if way == "eager" else f(xs)
        calls.append([v.data for v in result] if reduce is None else result.data)
        results.append((calls, [w.grad for w in model.parameters()], random.random()))
    (eager, gradients, after), (compiled, found, then) = results
    assert all(a == pytest.approx(b, rel=1e-12) for a, b in zip(eager, compiled, strict=True))
    assert eager[0] != eager[2]
    assert found == pytest.approx(gradients, rel=1e-9)
    assert after == then


def test_dropout_without_a_batch_axis_draws_anew_at_every_call():
    model, same = dropping_model(1), dropping_model(1)
    f = compile(lambda x: model(x)[0], batch=False)
    random.seed(1)
    found = [f([0.5, -1.0]).data for _ in range(5)]
    random.seed(1)
    assert found == pytest.approx([same([0.5, -1.0])[0].data for _ in range(5)], rel=1e-12)
    assert len(set(found)) > 1


def test_a_call_that_dropped_is_computed_again_with_the_same_draw():
    model = dropping_model(1)
    y = compile(lambda x: model(x)[0])([[0.5, -1.0], [1.0, 2.0]])
    before = y.data
    assert y.forward().data == before


def test_a_kernel_that_drops_takes_the_factors_as_its_last_argument():
    model = dropping_model(1)
    kernel = compile(lambda x: model(x)[0]).kernel([[0.5, -1.0]])
    assert kernel.signature.names == ("x", "factors of Dropout")
    assert kernel.signature.shapes == ((2,), (8,))
    model.eval()
    expected = model([0.5, -1.0])[0].data
    assert kernel.value(kernel.read(), [[0.5, -1.0]], np.ones((1, 8))) == pytest.approx(expected, rel=1e-12)


# -- threads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["compile", "fit", "evaluate"])
def test_a_model_may_be_read_by_other_threads_while_it_is_traced(way):
    model = Sequential(Affine(4, 16, seed=0), Tanh(), Affine(16, 3, seed=1))
    x, y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
    errors, done = [], threading.Event()

    def read():
        parameters = model.parameters()
        try:
            while not done.is_set():
                for w in parameters:
                    if w > 1e6 or type(w) is not mg.Value or w.data > 1e6:
                        raise AssertionError(f"{w!r} of {type(w)}")
                assert len(model.state_dict()) == len(parameters)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            if way == "compile":
                compile(lambda a: mg.total(model(a)))(x)
            elif way == "fit":
                mg.fit(model, x, y, epochs=1, quiet=True, compile=True)
            else:
                mg.evaluate(model, x, y, compile=True)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []
