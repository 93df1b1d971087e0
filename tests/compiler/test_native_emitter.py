"""Loop programs as machine code give what the interpreter gives: numbers are small and whole, so sums are exact."""

import ctypes
import functools
import re
from unittest.mock import patch

import llvmlite.binding as binding
import loop_interpreter
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgrid import ops
from microgrid.compiler.ir import NOT, NUMBER
from microgrid.compiler.targets.native import llvm
from microgrid.compiler.targets.native.loop_ir import (
    COUNT,
    SAMPLES,
    WEIGHT,
    Address,
    Affine,
    Buffer,
    Carried,
    For,
    Let,
    Load,
    LoopProgram,
    Pack,
    Store,
)

TILE = 24
STARTS = {"sum": 0.0, "dot": 0.0, "largest": -np.inf, "smallest": np.inf}


@functools.cache
def target():
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten()
    return binding.Target.from_default_triple().create_target_machine(
        binding.get_host_cpu_name(), features, opt=1, reloc="pic", codemodel="small"
    )


@functools.cache
def linker():
    return binding.create_lljit_compiler(target())


@functools.lru_cache(512)
def compiled(text):
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = target().triple, str(target().target_data)
    module.verify()
    passes = binding.create_pass_builder(target(), binding.create_pipeline_tuning_options(speed_level=1))
    passes.getModulePassManager().run(module, passes)
    library = binding.JITLibraryBuilder().add_object_img(target().emit_object(module)).add_current_process()
    return library.export_symbol("run").link(linker(), f"emitter {hash(text)}")


def walled(array, dtype):
    """A copy of an array on a line of the cache, with walls around it; and the memory, walls and all."""
    room = 64 // np.dtype(dtype).itemsize
    memory = np.full(array.size + 3 * room, 77.0, dtype)
    begin = room + -(memory.ctypes.data // memory.itemsize) % room
    memory[begin : begin + array.size] = array.ravel()
    return memory[begin : begin + array.size], memory


def run(program, theta, seed, arguments, outs, batch, width, tile=TILE, litter=np.nan):
    """Run a program natively, in a workspace full of litter; outs as the interpreter fills them."""
    assembly = llvm.emit(program, width=width, tile=tile, arguments=len(arguments), outputs=len(outs))
    for function in assembly.text.split("define ")[1:]:
        names = re.findall(r"(%\w+)(?=[,)])", function.partition("{")[0])
        assert not {f"  {name} = phi" for name in names} & {*re.findall("  %[a-z]+[0-9]+ = phi", function)}
    inputs = [np.ascontiguousarray(x, program.dtype) for x in (theta, seed, *arguments)]
    written = [walled(x, program.dtype) for x in (*outs, np.full(assembly.workspace, litter))]
    library = compiled(assembly.text)
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in (*inputs, *[inside for inside, _ in written])]
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers), ctypes.c_int64)
    signature(library["run"])(*pointers, batch)
    for inside, memory in written:
        begin = (inside.ctypes.data - memory.ctypes.data) // memory.itemsize
        walls = np.delete(memory, np.s_[begin : begin + inside.size])
        assert (walls == 77.0).all(), "it wrote outside of its memory"
    for out, (inside, _) in zip(outs, written, strict=False):
        out[...] = inside.reshape(out.shape)
    return assembly


class Author:
    """Writes programs at random: nests that read what is there and fill a buffer each."""

    def __init__(self, random, dtype, batched):
        self.random, self.dtype, self.batched = random, dtype, batched
        self.count = 0
        few = functools.partial(random.randint, 1, 9)
        self.inputs = [
            Buffer("theta", "theta", few()),
            Buffer("seed", "seed", few(), batched and random.random() < 0.5),
            Buffer("x0", "argument", few(), batched, 0),
            Buffer("x1", "argument", few(), False, 1),
            Buffer("c", "constant", few()),
        ]
        self.inputs[-1] = Buffer("c", "constant", size := few(), values=np.arange(size) % 5 - 2.0)
        self.buffers = list(self.inputs)
        self.known = list(self.inputs)  # what may be read
        self.sums = []

    def fresh(self, stem):
        self.count += 1
        return f"{stem}{self.count}"

    def program(self):
        random, parts = self.random, ([], [], [])
        for _ in range(random.randint(0, 2)):
            parts[0].extend(self.nest(False))
        before = list(self.known)
        if self.batched:
            if random.random() < 0.7:
                packed = Buffer("packed", "local", self.inputs[2].members + random.randint(0, 1), True)
                self.buffers.append(packed)
                parts[1].append(Pack(self.inputs[2], packed))
                self.known.append(Buffer("packed", "local", self.inputs[2].members, True))
            for _ in range(random.randint(1, 3)):
                parts[1].extend(self.nest(True))
            for buffer in self.sums:
                index = self.fresh("i")
                fill = Store(Address(buffer, Affine(0, ((index, 1),))), 0.0)
                parts[0].append(For(index, buffer.members, (fill,), lanes=random.random() < 0.5))
            self.known = before + self.sums
            parts[2].extend(self.nest(False))
        else:
            parts[0].extend(self.nest(False))
        return LoopProgram(tuple(self.buffers), *map(tuple, parts), dtype=self.dtype)

    def nest(self, tile):
        """Loops that fill a new buffer, or add to one over the samples."""
        random = self.random
        reads = [b for b in self.known if tile or not b.batched]
        shape = [random.choice([1, 2, 3, 5, 8, 9, 17]) for _ in range(random.randint(0, 2))]
        names = [self.fresh("i") for _ in shape]
        loops = list(zip(names, shape, strict=True))
        over_samples = tile and random.random() < 0.4
        if tile and not over_samples:
            loops.insert(random.randint(0, len(loops)), (SAMPLES, SAMPLES))
        lanes = random.choice([*[name for name, _ in loops], loops[-1][0] if loops else None])
        body, values = self.body(reads, loops, tile and not over_samples)
        if random.random() < 0.5 or over_samples:
            inner = [(SAMPLES, SAMPLES)] * over_samples
            inner += [(self.fresh("k"), random.choice([1, 3, 7, 8, 13, 22])) for _ in range(random.randint(0, 1))]
            random.shuffle(inner)
            more, result = self.reduced(reads, loops, inner, values, tile, lanes is None)
            body += more
            values.append(result)
        if not over_samples:
            result, more = self.joined(values)
            body += more
        size = int(np.prod(shape))
        batched = tile and not over_samples
        is_output = random.random() < 0.6
        name = self.fresh("b")
        position = sum(b.role == "output" for b in self.buffers)
        target = Buffer(name, "output" if is_output else "local", size, batched, position if is_output else 0)
        self.buffers.append(target)
        (self.sums if over_samples else self.known).append(target)
        strides = np.cumprod([1, *shape[:0:-1]])[: len(shape)][::-1]
        address = Address(target, Affine(0, tuple(zip(names, map(int, strides), strict=True))))
        if random.random() < 0.2:
            order = np.array(random.sample(range(size), size))
            address = Address(target, address.member, order)
        body.append(Store(address, result, over_samples))
        return self.looped(loops, body, lanes)

    def looped(self, loops, body, lanes, carried=()):
        random = self.random
        for name, extent in reversed(loops):
            unroll = random.choice([1, 1, 2, 3, 4])
            body = [For(name, extent, tuple(body), carried, name == lanes, unroll, random.random() < 0.2)]
            carried = ()
        return body

    def body(self, reads, loops, batched):
        """Some loads and some operations, of which none gets large."""
        random = self.random
        body, values = [], [2.0]
        for _ in range(random.randint(1, 3)):
            buffer = random.choice([b for b in reads if batched or not b.batched])
            values.append(self.fresh("l"))
            body.append(Load(values[-1], self.address(buffer, [x for x in loops if x[0] != SAMPLES])))
        for _ in range(random.randint(0, 3)):
            kind = random.choice(["number", "mask", "where", "not", "product"])
            a, b = random.choice(values), random.choice([*values, COUNT])
            name = self.fresh("v")
            if kind == "number":
                body.append(Let(name, random.choice([ops.maximum, ops.minimum]), (a, random.choice(values))))
            elif kind == "product":
                product = random.choice([ops.mul, ops.add, ops.sub])
                body.append(Let(self.fresh("p"), product, (a, random.choice(values))))
                name, more = self.clipped(body[-1].name)
                body += more
            else:
                mask = self.fresh("m")
                body.append(Let(mask, random.choice([ops.less, ops.greater_equal, ops.equal, ops.not_equal]), (a, b)))
                if kind == "where":
                    body.append(Let(name, ops.where, (mask, a, random.choice(values))))
                elif kind == "not":
                    body.append(Let(name, NOT, (mask,)))
                else:
                    body.append(Let(name, NUMBER, (mask,)))
            values.append(name)
        return body, values

    def joined(self, values):
        """One number out of all."""
        body, result = [], values[0]
        for x in values[1:]:
            body.append(Let(self.fresh("j"), self.random.choice([ops.add, ops.sub]), (result, x)))
            result, more = self.clipped(body[-1].name)
            body += more
        return result, body

    def clipped(self, x):
        low, high = self.fresh("v"), self.fresh("v")
        return high, [Let(low, ops.maximum, (x, -4.0)), Let(high, ops.minimum, (low, 4.0))]

    def reduced(self, reads, loops, inner, values, tile, may_be_lanes):
        """A reduction inside, of one loop or two, or a recurrence."""
        random = self.random
        kind = random.choice(["sum", "dot", "largest", "smallest", "state"])
        over_samples = (SAMPLES, SAMPLES) in inner
        if over_samples:
            kind = random.choice(["sum", "dot"])
        if not inner:
            inner = [(self.fresh("k"), random.choice([1, 3, 7, 8, 13, 22]))]
        body, more = self.body(reads, loops + inner, tile)
        values = values + more
        lanes = random.choice([*[name for name, _ in inner], None]) if may_be_lanes and kind != "state" else None
        terms = tuple(random.choice(more[1:] or values) for _ in range(1 + (kind == "dot")))
        if kind == "state":
            before, (term, clip) = self.fresh("y"), self.clipped(p := self.fresh("p"))
            step = [Let(p, random.choice([ops.add, ops.mul, ops.sub]), (before, terms[0])), *clip]
            carried = (Carried(self.fresh("s"), "state", (term,), random.choice(values[:3]), before),)
            name, extent = inner[-1]
            loop = For(name, extent, (*body, *step), carried, backward=random.random() < 0.5)
            return [loop], carried[0].name
        result = []
        for name, extent in reversed(inner):
            carried = (Carried(self.fresh("s"), kind, terms, STARTS[kind]),)
            result = self.looped([(name, extent)], body, lanes, carried)
            body, terms, kind = result, (carried[0].name,), "sum" if kind == "dot" else kind
        return result, carried[0].name

    def address(self, buffer, loops):
        """Some member of a buffer for each place in the loops, by strides or by a table."""
        random = self.random
        used = [x for x in loops if random.random() < 0.7]
        strides = [random.choice([1, 1, 1, 2, -1, 3]) for _ in used]
        low = sum(min(s * (n - 1), 0) for s, (_, n) in zip(strides, used, strict=True))
        high = sum(max(s * (n - 1), 0) for s, (_, n) in zip(strides, used, strict=True))
        terms = tuple((name, s) for s, (name, _) in zip(strides, used, strict=True))
        if high - low < buffer.members:
            return Address(buffer, Affine(random.randint(-low, buffer.members - 1 - high), terms))
        table = np.array([random.randrange(buffer.members) for _ in range(high - low + 1)])
        return Address(buffer, Affine(-low, terms), table)


def data(program, batch, special):
    """Whole numbers for all that a program is given; of the last sample, some are nan or infinite."""
    random = np.random.default_rng(batch)
    arrays = {"theta": np.zeros(1), "seed": np.zeros(1)}
    arguments, outs = [np.zeros(1)] * 2, {}
    for b in program.buffers:
        shape = (batch, b.members) if b.role == "argument" else (b.members, batch)
        numbers = random.integers(-3, 4, shape if b.batched else b.members).astype(float)
        if b.role in arrays:
            arrays[b.role] = numbers
        elif b.role == "argument":
            if b.batched and special is not None:
                numbers[-1, 0] = special
            arguments[b.position] = numbers
        elif b.role == "output":
            outs[b.position] = np.zeros(numbers.shape)
    return arrays["theta"], arrays["seed"], arguments, [outs[k] for k in range(len(outs))]


@settings(max_examples=80)
@given(
    st.randoms(use_true_random=True),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["float64", "float32"]),
    st.sampled_from([0, 1, 3, 7, 8, 9, TILE - 1, TILE, TILE + 1, 2 * TILE + 5]),
    st.sampled_from([None, np.nan, np.inf]),
    st.sampled_from([0, llvm.LONG]),
    st.sampled_from([8, llvm.LONGEST]),
)
def test_a_random_program_gives_what_the_interpreter_gives(random, width, dtype, batch, special, long, longest):
    program = Author(random, dtype, batch > 0).program()
    theta, seed, arguments, outs = data(program, max(batch, 1), special)
    expected = [np.zeros_like(out) for out in outs]
    inputs = [x.astype(dtype) for x in (theta, seed, *arguments)]
    loop_interpreter.run(program, inputs[0], inputs[1], inputs[2:], expected, max(batch, 1), TILE)
    with patch.object(llvm, "LONG", long), patch.object(llvm, "LONGEST", longest):
        run(program, theta, seed, arguments, outs, max(batch, 1), width)
    for out, wanted in zip(outs, expected, strict=True):
        np.testing.assert_array_equal(out, wanted, program.dump())


def member(buffer, base=0, **strides):
    return Address(buffer, Affine(base, tuple(strides.items())))


THETA, X, Y = Buffer("theta", "theta", 40), Buffer("x", "argument", 5, True), Buffer("y", "output", 40)


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_a_loop_reads_what_it_wrote_an_iteration_before(width):
    body = (Load("a", member(THETA, i=1)), Load("b", member(Y, i=1, base=1)), Let("c", ops.add, ("a", "b")))
    program = LoopProgram(
        (THETA, Y),
        (
            Store(member(Y, 39), 1.0),
            For("i", 39, (*body, Store(member(Y, i=1), "c")), backward=True),
            For("j", 39, (Load("d", member(Y, j=1)), Store(member(Y, j=1, base=1), "d", adds=True))),
        ),
        (),
        (),
    )
    theta, y = np.arange(40.0), np.zeros(40)
    run(program, theta, np.zeros(1), [], [y], 1, width)
    expected = np.cumsum(np.append(theta[:39], 1.0)[::-1])[::-1]
    np.testing.assert_array_equal(y, np.cumsum(expected))


@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("extent", [5, 16])
def test_lanes_that_add_to_one_member_are_all_added(width, extent):
    table = np.array([3, 3, 0, 3] * 4)
    program = LoopProgram(
        (THETA, Y),
        (
            For(
                "i",
                extent,
                (Load("a", member(THETA, i=1)), Store(Address(Y, Affine(0, (("i", 1),)), table), "a", True)),
                lanes=True,
            ),
        ),
        (),
        (),
    )
    y = np.zeros(40)
    run(program, np.arange(40.0), np.zeros(1), [], [y], 1, width)
    expected = np.zeros(40)
    np.add.at(expected, table[:extent], np.arange(float(extent)))
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(
    ("extent", "op", "pairs"), [(SAMPLES, ops.neg, False), (SAMPLES, ops.exp, True), (40, ops.neg, True)]
)
def test_two_registers_are_for_loops_whose_arithmetic_outweighs_their_loads_and_stores(extent, op, pairs):
    y = Buffer("y", "output", 1, True)
    body = (Load("a", member(X)), Let("b", op, ("a",)), Let("c", op, ("b",)), Store(member(y), "c"))
    assert llvm.outweighs(For(extent, extent, body, lanes=True)) == pairs


@pytest.mark.parametrize("batched", [False, True])
def test_a_long_program_is_divided_into_functions_that_pass_numbers_and_masks(batched):
    y = Buffer("y", "output", 1, batched)
    z = Buffer("z", "local", 1, batched)
    before = [Load("v0", member(THETA)), Let("m", ops.less, ("v0", 1.0))]
    for k in range(1, 2001):
        before += [Let(f"v{k}", ops.sub, (float(k % 7), f"v{k - 1}"))]
    last = Let("w", ops.where, ("m", "v2000", COUNT)), Let("u", ops.mul, ("w", WEIGHT))
    store = [Store(member(z), "u"), Load("t", member(z)), Store(member(y), "t")]
    end = [For(SAMPLES, SAMPLES, tuple(store), lanes=True)] * batched or store
    parts = ((*before, *last), tuple(end), ()) if batched else ((*before, *last, *end), (), ())
    theta, batch = np.full(40, 0.5), 30 if batched else 1
    expected, outs = ([np.zeros((1, batch) if batched else 1)] for _ in range(2))
    program = LoopProgram((THETA, y, z), *parts)
    loop_interpreter.run(program, theta, None, [], expected, batch, TILE)
    assembly = run(program, theta, np.zeros(1), [], outs, batch, 4)
    np.testing.assert_array_equal(outs[0], expected[0])
    assert assembly.statements >= 2000
    assert max(function.count("fsub") for function in assembly.text.split("define")) <= llvm.LONGEST


def test_what_lies_in_the_workspace_and_behind_the_last_sample_makes_no_difference():
    packed, local = Buffer("p", "local", 5, True), Buffer("h", "local", 5, True)
    y, total = Buffer("y", "output", 5, True), Buffer("t", "output", 5, False, 1)
    body = (
        Load("a", member(packed, i=1)),
        Let("b", ops.exp, ("a",)),
        Store(member(local, i=1), "b"),
        Let("c", ops.log, ("b",)),
        Store(member(y, i=1), "c"),
    )
    loop = For(SAMPLES, SAMPLES, body, (Carried("s", "sum", ("b",)),), lanes=True, unroll=2)
    again = For(SAMPLES, SAMPLES, (Load("d", member(local, j=1)),), (Carried("q", "dot", ("d", "d")),), lanes=True)
    tile = (
        Pack(X, packed),
        For("i", 5, (loop, Store(member(total, i=1), "s", True))),
        For("j", 5, (again, Store(member(total, j=1), "q", True)), unroll=4),
    )
    zero = For("f", 5, (Store(member(total, f=1), 0.0),))
    program = LoopProgram((X, packed, local, y, total), (zero,), tile, ())
    x = np.random.default_rng(0).normal(size=(2 * TILE + 3, 5))
    results = []
    for litter in (np.nan, -1e300, 0.0):
        outs = [np.zeros((5, len(x))), np.zeros(5)]
        run(program, np.zeros(1), np.zeros(1), [x], outs, len(x), 8, litter=litter)
        results.append(outs)
    np.testing.assert_allclose(results[0][0], x.T, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(results[0][1], (np.exp(x) + np.exp(2 * x)).sum(0), rtol=1e-14)
    for outs in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(outs, results[0], strict=True))
