"""What watch() records, and what it puts on the page; the page itself is tested in a browser."""

import base64
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from array import array
from itertools import pairwise

import pytest

import microgrid as mg
from microgrid import losses
from microgrid.drawing import replay
from microgrid.drawing.replay import Thinned, watch
from microgrid.nn import MLP, Affine, Dropout, Layer, Module, Neuron, ReLU, Sequential, Softmax, Tanh

POINTS, CLASSES = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [-1, 1, 1, -1]


def data_of(watcher):
    """What the page's scripts read."""
    return json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', watcher.html, re.DOTALL)[1])


def frames_of(data):
    numbers = array("f", base64.b64decode(data["numbers"]))
    size = len(numbers) // len(data["at"])
    return [list(numbers[i : i + size]) for i in range(0, len(numbers), size)]


def trained(model, X=POINTS, y=CLASSES, steps=3, **options):
    watcher = watch(model, X, y, **options)
    for step in range(steps):
        for parameter in model.parameters():
            parameter.data += 0.25
        watcher.record(loss=1.0 / (step + 1))
    return watcher


# ---------------------------------------------------------------------------------------------------
# Recording


def test_fit_records_every_epoch_and_the_untrained_model():
    model = MLP(2, [3, 1], seed=0)
    before = [p.data for p in model.parameters()]
    watcher = watch(model, POINTS, CLASSES)
    history = mg.fit(
        model,
        POINTS,
        CLASSES,
        loss=losses.hinge,
        epochs=5,
        validation=(POINTS, CLASSES),
        after_epoch=watcher,
        quiet=True,
    )
    data = data_of(watcher)
    assert (data["unit"], data["at"], data["moments"]) == ("epoch", [*range(6)], [*range(6)])
    for name in ("loss", "accuracy", "validation_loss", "validation_accuracy"):
        assert data["measures"][name] == [None, *getattr(history, name)]
    assert frames_of(data)[0] == pytest.approx(before, rel=1e-6)
    assert frames_of(data)[-1] == pytest.approx([p.data for p in model.parameters()], rel=1e-6)


def test_a_loop_of_ones_own_records_any_measures():
    model = MLP(2, [1])
    watcher = watch(model)
    watcher.record(loss=mg.Value(2.0), gradient_norm=1)
    watcher.record(loss=math.inf)
    data = data_of(watcher)
    assert data["unit"] == "step"
    assert data["measures"] == {"loss": [None, 2.0, "Infinity"], "gradient_norm": [None, 1.0, None]}


@pytest.mark.parametrize("limit", [2, 3, 8, 9])
def test_a_long_record_is_thinned_evenly_and_keeps_both_ends(limit):
    thinned = Thinned(limit)
    for i in range(100):
        thinned.append(i)
        kept = thinned.items()
        assert (kept[0], kept[-1]) == (0, i)
        assert i + 1 <= limit or limit // 2 <= len(kept) <= limit + 1
        assert len({b - a for a, b in pairwise(kept[:-1])}) <= 1, "evenly, but for the last"


def test_each_moment_of_the_parameters_is_one_of_the_curve_however_long_the_training(monkeypatch):
    monkeypatch.setattr(replay, "FRAMES", 6)
    monkeypatch.setattr(replay, "MOMENTS", 20)
    data = data_of(trained(MLP(2, [1]), steps=333))
    assert set(data["at"]) <= set(data["moments"])
    assert data["at"][-1] == 333
    assert len(frames_of(data)) == len(data["at"]) <= 7


def test_the_page_of_a_large_network_is_bounded(monkeypatch):
    monkeypatch.setattr(replay, "NUMBERS", 20_000)
    watcher = trained(MLP(64, [50, 10]), None, None, steps=30)
    assert len(watcher.html) < 20_000 * 8 + 100_000
    assert len(data_of(watcher)["at"]) <= 6


def test_a_watcher_says_how_much_it_has_recorded():
    watcher = watch(MLP(2, [1]))
    assert "nothing recorded yet" in repr(watcher)
    assert watcher._repr_html_() is None, "a notebook shows the repr"
    watcher.record()
    assert "1 step;" in repr(watcher)


# ---------------------------------------------------------------------------------------------------
# What is on the page for each kind of model


def numbered(model):
    """Make each parameter its own position, so that what the page reads can be told."""
    for i, parameter in enumerate(model.parameters()):
        parameter.data = float(i)
    return model


def test_the_diagram_knows_where_each_weight_and_bias_stands():
    model = numbered(Sequential(Affine(2, 3), ReLU(), Affine(3, 2)))
    diagram = data_of(trained(model))["network"]
    assert diagram["sizes"] == [2, 3, 2]
    assert diagram["names"] == ["Inputs", "Affine 0", "Affine 2"]
    for layer, weights, biases in zip(model.modules[::2], diagram["weights"], diagram["biases"], strict=True):
        assert weights == [int(neuron.w[0].data - 0.75) for neuron in layer.neurons]
        assert biases == [int(neuron.b.data - 0.75) for neuron in layer.neurons]


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (lambda: Neuron(2), [2, 1]),
        (lambda: Layer(2, 3), [2, 3]),
        (lambda: Affine(2, 3), [2, 3]),
        (lambda: MLP(2, [4, 1]), [2, 4, 1]),
        (lambda: Sequential(Affine(2, 4), Tanh(), Dropout(0.5), Affine(4, 3)), [2, 4, 3]),
    ],
)
def test_each_neuron_of_the_diagram_has_its_node_of_the_program(make, sizes):
    model = make()
    data = data_of(trained(model, y=[0, 1, 1, 0]))
    assert data["network"]["sizes"] == sizes
    neurons, outputs = data["boundary"]["neurons"], data["boundary"]["outputs"]
    assert [len(layer) for layer in neurons] == sizes[1:]
    assert len({node for layer in neurons for node in layer}) == sum(sizes[1:])
    assert None not in [node for layer in neurons for node in layer]
    assert neurons[-1] == outputs


def test_a_neuron_is_shown_with_the_activation_that_it_alone_goes_through():
    boundary = data_of(trained(Sequential(Affine(2, 2), Tanh(), Affine(2, 2), Softmax()), y=[0, 1, 1, 0]))["boundary"]
    program, (hidden, scores) = boundary["program"], boundary["neurons"]
    names = [len(program["parents"][node]) for node in (*hidden, *scores)]
    assert names == [1, 1, 3, 3], "tanh of one number; the softmax takes both scores, so it is nobody's"


def test_samples_of_one_number_have_a_curve_whose_other_axis_holds_the_targets():
    boundary = data_of(trained(MLP(1, [3, 1]), [[0], [1], [2]], [5.0, 7.0, 6.0]))["boundary"]
    assert len(boundary["inputs"]) == 1
    (left, right), (low, high) = boundary["range"]
    assert left < 0 < 2 < right < 4
    assert 4 < low < 5 < 7 < high


def test_of_a_curve_without_targets_the_other_axis_holds_the_answers():
    model = MLP(1, [1], seed=0)
    boundary = data_of(trained(model, [[0], [1]], None))["boundary"]
    low, high = boundary["range"][1]
    assert low < min(model([0]).data, model([1]).data) < max(model([0]).data, model([1]).data) < high


def test_of_a_square_of_inputs_the_weights_are_images():
    images = data_of(trained(numbered(MLP(16, [5, 2])), None, None))["images"]
    assert images == {"side": 4, "name": "Layer 0", "total": 5, "weights": [0, 17, 34, 51, 68]}


class Mixed(Module):
    def __init__(self):
        self.scale = mg.Value(2.0)
        self.steps = [mg.Value(0.5), mg.Value(-0.5)]
        self.inner = Affine(2, 2, seed=0)

    def forward(self, x):
        a, b = self.inner(x)
        return self.scale * (a * self.steps[0] + b * self.steps[1])


class Tied(Module):
    """Two neurons that share a weight: a parameter of one of them is missing from the names."""

    def __init__(self):
        self.neurons = [Neuron(2), Neuron(2)]
        self.neurons[1].w[0] = self.neurons[0].w[0]

    def forward(self, x):
        return [neuron(x) for neuron in self.neurons]


class Plain:
    """No module of ours: only parameters()."""

    def __init__(self):
        self.w = [mg.Value(1.0), mg.Value(-1.0)]

    def parameters(self):
        return self.w

    def __call__(self, x):
        return mg.dot(self.w, x)


def test_parameters_of_any_model_are_grouped_by_name():
    data = data_of(trained(Mixed()))
    assert data["groups"] == [
        ["scale", [[0, 1]]],
        ["steps", [[1, 2]]],
        ["inner (Affine) · weights", [[3, 2], [6, 2]]],
        ["inner (Affine) · biases", [[5, 1], [8, 1]]],
    ]
    assert data["network"]["others"] == 3


@pytest.mark.parametrize("make", [Tied, Plain])
def test_a_model_that_is_no_stack_of_layers_has_the_table_and_the_boundary(make):
    data = data_of(trained(make()))
    assert data["network"] is None
    assert data["images"] is None
    assert sum(length for _, runs in data["groups"] for _, length in runs) == len(make().parameters())
    assert data["boundary"]["problem"] == ""


def test_many_groups_share_the_last_row(monkeypatch):
    monkeypatch.setattr(replay, "ROWS", 2)
    assert [name for name, _ in data_of(trained(Mixed()))["groups"]] == ["scale", "steps", "all others"]


# ---------------------------------------------------------------------------------------------------
# The boundary


def test_the_page_has_the_answers_of_the_model_as_it_is_used():
    model = Sequential(Affine(2, 4, seed=0), Dropout(0.5, seed=0), Affine(4, 1, seed=1))
    watcher = trained(model)
    assert model.training, "the model is left as it was"
    model.eval()
    boundary = data_of(watcher)["boundary"]
    assert boundary["tried"] == POINTS
    assert boundary["answers"] == [[model(point).data] for point in POINTS]


def test_targets_are_classes_numbers_or_one_hot():
    one_hot = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]
    assert data_of(trained(MLP(2, [3]), y=one_hot))["boundary"]["targets"] == [0, 1, 2, 1]
    assert data_of(trained(MLP(2, [1]), y=[0.5, 2, 3, 4]))["boundary"]["targets"] == [0.5, 2, 3, 4]
    assert data_of(trained(MLP(2, [1]), y=None))["boundary"]["targets"] is None


def test_of_many_points_some_are_shown():
    points = [[i / 1000, 0.5] for i in range(1000)]
    boundary = data_of(trained(MLP(2, [1]), points, [0, 1] * 500))["boundary"]
    assert boundary["total"] == 1000
    assert len(boundary["points"]) == len(boundary["targets"]) <= replay.POINTS
    assert len(boundary["tried"]) <= replay.TRIED
    low, high = boundary["range"][1]
    assert low < 0.5 < high, "also where all points have one coordinate"


def test_samples_that_are_images_are_on_the_page_some_of_many():
    images = [[(i + k) % 7 / 3 for k in range(64)] for i in range(250)]
    boundary = data_of(trained(MLP(64, [3, 2]), images, [0, 1] * 125))["boundary"]
    assert (boundary["total"], boundary["range"]) == (250, [])
    assert len(boundary["inputs"]) == 64
    assert 50 < len(boundary["points"]) == len(boundary["targets"]) <= replay.PIXELS // 64
    assert boundary["points"][1] == pytest.approx(images[3], rel=1e-5)
    assert len(boundary["answers"]) <= replay.TRIED // 5


def test_samples_of_three_numbers_have_no_boundary():
    assert data_of(trained(MLP(3, [1]), [[1, 2, 3]], [1]))["boundary"] is None


def test_recording_within_no_grad_has_a_boundary_all_the_same():
    with mg.no_grad():
        watcher = trained(MLP(2, [2, 1]))
    assert len(data_of(watcher)["boundary"]["program"]["op"]) > 10


class Floats(Plain):
    def __call__(self, x):
        return [1.0]


class Secret(Plain):
    def __call__(self, x):
        return mg.Op("secret", lambda x: x * x, (lambda y, x: 2 * x,))(self.w[0] * x[0])


@pytest.mark.parametrize(
    ("make", "problem"),
    [(Floats, "gives float, not a Value"), (Secret, "secret has no JavaScript"), (Plain, "too many for a page")],
)
def test_where_the_page_cannot_compute_the_model_it_says_why(monkeypatch, make, problem):
    if make is Plain:
        monkeypatch.setattr(replay, "TRACED", 3)
    assert problem in data_of(trained(make()))["boundary"]["problem"]


# ---------------------------------------------------------------------------------------------------
# What does not work, and what can be shown anywhere


class Empty(Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda: watch(Empty()), ValueError, "has no parameters, so no training changes it"),
        (lambda: watch(len), TypeError, r"something that has parameters\(\)"),
        (lambda: watch(MLP(2, [1]), POINTS, [1]), ValueError, "4 samples and y has 1 targets"),
        (lambda: watch(MLP(2, [1]), [], []), ValueError, "X is empty"),
        (lambda: watch(MLP(2, [1]), y=[1]), ValueError, "targets y without samples"),
        (lambda: watch(MLP(2, [1]), [[1, 2], [3]], [0, 1]), ValueError, r"different lengths, \[1, 2\]"),
        (lambda: watch(MLP(2, [1]), [[1, "a"]], [0]), TypeError, r"X\[0\]"),
        (lambda: watch(MLP(2, [1]), [[1, 2]], [math.nan]), ValueError, r"y\[0\] has nan"),
        (lambda: watch(MLP(3, [1]), POINTS, CLASSES), ValueError, r"takes 3 input\(s\), got 2"),
        (lambda: watch(MLP(2, [1]), theme="blue"), ValueError, "theme must be one of auto, light, dark"),
        (lambda: watch(MLP(2, [1]), title=3), TypeError, "title must be text, the heading; got 3: give title='3'"),
        (lambda: watch(MLP(2, [1])).html, ValueError, "nothing is recorded yet: train with mg.fit"),
        (lambda: watch(MLP(2, [1])).record(loss="low"), TypeError, r"record\(loss=…\) takes a number or a Value"),
    ],
)
def test_wrong_use_is_an_error_that_names_the_remedy(act, error, message):
    with pytest.raises(error, match=message):
        act()


def test_nothing_is_written_before_something_is_recorded(tmp_path):
    path = tmp_path / "training.html"
    path.write_text("old")
    with pytest.raises(ValueError, match="nothing is recorded"):
        watch(MLP(2, [1])).save(path)
    assert path.read_text() == "old"
    with pytest.raises(ValueError, match=r"end the name .* in .html"):
        trained(MLP(2, [1])).save(tmp_path / "training.png")


def test_a_model_that_changes_its_size_is_an_error():
    model = Plain()
    watcher = watch(model)
    model.w.append(mg.Value(0.0))
    with pytest.raises(ValueError, match="had 2 parameters when watching began and has 3 now"):
        watcher.record(loss=1)


@pytest.mark.parametrize("title", ["</script><script>alert(1)</script>", '"><img src=x>', "문제 {{data}} \x00"])
def test_a_notebook_shows_the_page_in_a_frame_and_the_curve_behind_it(title):
    watcher = trained(MLP(2, [1]), title=title)
    watcher.record(loss=2.0, validation_loss=3.0)
    shown = watcher._repr_html_()
    assert re.search('<iframe [^>]*title="', shown)
    assert "<script>alert" not in shown
    picture = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1]).decode()
    root = ElementTree.fromstring(picture)
    texts = [node.text for node in root.iter() if node.tag.endswith("text")]
    assert title[:5] in texts[0]
    assert "training 2" in texts
    assert "validation 3" in texts


@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_the_still_picture_of_a_record_without_measures_is_whole(theme):
    watcher = watch(MLP(2, [1]), theme=theme)
    watcher.record()
    ElementTree.fromstring(watcher._still())
    assert ("prefers-color-scheme" in watcher._still()) == (theme == "auto")


def test_the_same_record_gives_the_same_page():
    assert trained(MLP(2, [2, 1], seed=0)).html == trained(MLP(2, [2, 1], seed=0)).html
