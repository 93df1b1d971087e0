"""Data sets, MNIST-format files, minibatches."""

import gzip
import math
import os
import struct
import sys
import threading
import tracemalloc
import zlib

import numpy as np
import pytest

from microgrid import data

CODES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def idx(array, code):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(">" + CODES[code]).tobytes()


@pytest.mark.parametrize(("make", "classes"), [(data.moons, 2), (data.spirals, 3), (data.circles, 2), (data.xor, 2)])
@pytest.mark.parametrize("n", [3, 10, 101])
def test_toy_sets_have_n_samples_of_evenly_many_classes(make, classes, n):
    X, y = make(n)
    assert X.shape == (n, 2)
    assert y.shape == (n,)
    assert max(np.bincount(y, minlength=classes)) - min(np.bincount(y, minlength=classes)) <= 1


@pytest.mark.parametrize("make", [data.moons, data.spirals, data.circles, data.xor, data.sine])
def test_a_seed_gives_the_same_toy_set_and_another_seed_another(make):
    first, again, other = make(60, seed=3), make(60, seed=3), make(60, seed=4)
    assert (first[0] == again[0]).all()
    assert (first[1] == again[1]).all()
    assert not (first[0] == other[0]).all()


def test_moons_without_noise_lie_on_two_half_circles():
    X, y = data.moons(50, noise=0.0)
    upper, lower = X[y == 0], X[y == 1]
    assert np.hypot(*upper.T) == pytest.approx(1.0)
    assert (upper[:, 1] >= -1e-12).all()
    assert np.hypot(lower[:, 0] - 1.0, lower[:, 1] - 0.5) == pytest.approx(1.0)
    assert (lower[:, 1] <= 0.5 + 1e-12).all()


def test_circles_without_noise_have_the_radius_one_and_a_half_all_around():
    X, y = data.circles(80, noise=0.0)
    assert np.hypot(*X.T) == pytest.approx(1.0 - 0.5 * y)
    for label in (0, 1):
        angles = np.sort(np.arctan2(*X[y == label].T[::-1]))
        assert np.diff(angles) == pytest.approx(2.0 * math.pi / 40)


def test_xor_without_noise_is_four_corners_whose_class_is_whether_signs_differ():
    X, y = data.xor(40, noise=0.0)
    assert (np.abs(X) == 1.0).all()
    assert (y == (X[:, 0] != X[:, 1])).all()
    assert [*np.unique(X, axis=0, return_counts=True)[1]] == [10, 10, 10, 10]


def test_sine_has_one_input_and_the_noise_in_its_target():
    X, y = data.sine(101, noise=0.0)
    assert X.shape == (101, 1)
    assert y == pytest.approx(np.sin(math.pi * X[:, 0]))
    noisy, targets = data.sine(101, noise=0.2)
    assert (noisy == X).all()
    assert 0.1 < np.std(targets - y) < 0.3


def test_spirals_without_noise_turn_with_their_radius():
    X, y = data.spirals(90, classes=3, noise=0.0)
    radius = np.hypot(*X.T)
    angle = 4.0 * radius + 2.0 * math.pi * y / 3
    assert pytest.approx(np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])) == X


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: data.moons(0), "n must be a whole number, 1 or more; got 0"),
        (lambda: data.moons(2.5), "n must be a whole number, 1 or more; got 2.5"),
        (lambda: data.moons(True), "got True"),
        (lambda: data.moons(10, noise=-1.0), "noise must be a finite standard deviation, 0 or more; got -1.0"),
        (lambda: data.moons(10, noise=math.nan), "got nan"),
        (lambda: data.spirals(2, classes=3), "n must be a whole number, 3 or more; got 2"),
        (lambda: data.spirals(9, classes=0), "classes must be a whole number, 1 or more; got 0"),
        (lambda: data.digits(test=0.0), "test must be a share between 0.01 and 0.99"),
        (lambda: data.digits(test=1.0), "got 1.0"),
        (lambda: data.minibatches([[1.0]], [1], 0), "the batch size must be a whole number, 1 or more; got 0"),
        (lambda: data.minibatches([[1.0]], [1, 2], 1), r"arrays of shape \(1, 1\) and \(2,\)"),
        (lambda: data.minibatches([], [], 1), "X and y are empty"),
        (lambda: data.minibatches(1.0, 2.0, 1), "one row per sample"),
    ],
)
def test_bad_arguments_are_named_with_what_was_expected(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_module_names_are_modules_spelled_with_small_letters():
    names = data.module_names()
    assert {"math", "random", "statistics"} <= set(names)
    assert names == sorted(set(names))
    assert set("".join(names)) <= set("abcdefghijklmnopqrstuvwxyz")
    assert set(names) <= sys.stdlib_module_names


def test_digits_are_scaled_and_split_with_every_digit_in_both_parts():
    split = data.digits(test=0.2, seed=1)
    assert split.X_train.shape == (1437, 64)
    assert split.X_test.shape == (360, 64)
    assert split.X_train.min() == 0.0
    assert split.X_train.max() == 1.0
    shares = np.bincount(split.y_test) / np.bincount(np.concatenate([split.y_train, split.y_test]))
    assert shares == pytest.approx(0.2, abs=0.01)
    assert (data.digits(seed=1).X_test == split.X_test).all()
    assert not (data.digits(seed=2).X_test == split.X_test).all()


def test_no_digit_image_is_lost_or_doubled_by_the_split():
    from sklearn.datasets import load_digits

    split = data.digits()
    together = np.concatenate([split.X_train, split.X_test]) * 16.0
    assert sorted(map(tuple, together)) == sorted(map(tuple, load_digits().data))


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_idx_files_of_every_type_are_read_compressed_or_not(tmp_path, code, pack):
    array = np.arange(24).reshape(2, 3, 4).astype(CODES[code])
    path = tmp_path / "numbers"
    path.write_bytes(pack(idx(array, code)))
    read = data.load_idx(path)
    assert read.dtype == array.dtype
    assert (read == array).all()
    read[0, 0, 0] = 1  # the array is the caller's own


IMAGES = idx(np.zeros((2, 3), "u1"), 0x08)


PACKED = gzip.compress(IMAGES, mtime=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "begin with 00 00, .* found an empty file", id="empty"),
        pytest.param(b"PK\x03\x04abc", "found 50 4b 03 04", id="another format"),
        pytest.param(
            b"\0\0\x07\x01" + IMAGES[4:],
            "unknown IDX type code 07 in byte 3; expected one of 08, 09, 0b, 0c, 0d, 0e",
            id="another type",
        ),
        pytest.param(
            b"\0\0\x08\x00",
            "expected at least 1 dimension of 4 bytes each, found 0 in byte 4 and 0 bytes after it",
            id="no dimensions",
        ),
        pytest.param(IMAGES[:9], "found 2 in byte 4 and 5 bytes after it", id="cut in the header"),
        pytest.param(IMAGES[:-1], r"expected 18 bytes for 2 × 3 numbers of 1 byte\(s\), found 17", id="cut short"),
        pytest.param(IMAGES + b"!", "expected 18 bytes .*, found more", id="too long"),
        pytest.param(gzip.compress(IMAGES[:-1]), "expected 18 bytes .*, found 17", id="cut short, then compressed"),
        pytest.param(gzip.compress(IMAGES + b"!"), "expected 18 bytes .*, found more", id="too long when unpacked"),
        pytest.param(gzip.compress(b""), "found an empty file", id="nothing, compressed"),
        pytest.param(IMAGES[:4] + bytes(8), r"expected at least 1 number, found 0 × 0", id="no numbers"),
        pytest.param(IMAGES[:8] + bytes(4), r"found 2 × 0", id="rows of nothing"),
        pytest.param(IMAGES[:4] + bytes(4) + b"\xff" * 4, "found 0 × 4294967295", id="none of many"),
        pytest.param(
            b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"!", "at most 32 dimensions, found 255", id="255 dimensions"
        ),
        pytest.param(PACKED[:-9], "broken gzip file", id="cut gzip"),
        pytest.param(b"\x1f\x8bgarbage", "broken gzip file", id="no gzip"),
        pytest.param(PACKED[:10] + b"\xff" * 20, "broken gzip file", id="damaged gzip"),
        pytest.param(PACKED[:-8] + b"\xff" * 8, "broken gzip file", id="another checksum"),
        pytest.param(IMAGES[:4] + b"\xff" * 8, "expected 18446744065119617037 bytes", id="huge"),
    ],
)
def test_a_bad_idx_file_is_named_with_what_was_found_and_expected(tmp_path, content, said):
    path = tmp_path / "broken-idx3"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        data.load_idx(path)
    assert str(path) in str(error.value)


def bomb(header, size):
    """Gzip of a header and ``size`` zeros, a thousandth as long: the same compressed piece again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + piece * (size // 2**20) + packer.flush()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"", "unknown IDX type code 00"),
        (IMAGES[:12], "expected 18 bytes .*, found more"),
        (
            struct.pack(">BBBB2I", 0, 0, 8, 2, 2**20, 1000),
            "its header asks for 1,048,576,012 bytes, and the file has .* If you trust it, unpack it with gunzip",
        ),
        (struct.pack(">BBBB2I", 0, 0, 14, 2, 2**32 - 1, 2**32 - 1), "its header asks for 147,573,952,520,.* gunzip"),
    ],
)
def test_a_file_that_unpacks_to_a_gigabyte_is_refused_by_its_header(tmp_path, header, said):
    path = tmp_path / "bomb-idx3.gz"
    path.write_bytes(bomb(header, 1000 * 2**20))
    assert path.stat().st_size < 2_000_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=said) as error:
            data.load_idx(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(error.value)
    assert peak < 4_000_000


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_that_asks_for_more_than_there_is_costs_no_memory(tmp_path, pack):
    path = tmp_path / "idx"
    path.write_bytes(pack(struct.pack(">BBBB2I", 0, 0, 8, 2, 6000, 10_000) + bytes(100)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="found 112"):
            data.load_idx(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_images_of_one_colour_are_read_though_they_are_packed_a_thousandfold(tmp_path):
    path = tmp_path / "idx.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((1000, 28, 28), "u1"), 0x08)))
    assert data.load_idx(path).shape == (1000, 28, 28)


def test_an_idx_file_may_come_through_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(PACKED))
    writer.start()
    assert data.load_idx(pipe).shape == (2, 3)
    writer.join()


def test_a_missing_idx_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.gz: there is no such file"):
        data.load_idx(tmp_path / "nowhere.gz")
    with pytest.raises(ValueError, match="is a folder"):
        data.load_idx(tmp_path)


@pytest.mark.parametrize("size", [1, 3, 10, 99])
def test_minibatches_hold_every_sample_once_beside_its_target(size):
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    batches = list(data.minibatches(X, y, size, seed=5))
    assert [len(b) for b, _ in batches] == [min(size, 10 - i) for i in range(0, 10, size)]
    assert all((b[:, 0] == 2 * t).all() for b, t in batches)
    assert sorted(np.concatenate([t for _, t in batches])) == list(range(10))


def test_a_seed_repeats_the_minibatches_and_a_generator_goes_on():
    def targets(seed):
        return np.concatenate([t for _, t in data.minibatches([[0.0]] * 50, range(50), 7, seed)]).tolist()

    assert targets(1) == targets(1) != targets(2)
    generator = np.random.default_rng(1)
    assert targets(generator) == targets(1)
    assert targets(generator) != targets(1)
