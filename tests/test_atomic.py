"""Files are written whole or not at all, whoever writes them."""

import contextlib
import os
import resource
import threading
import time

import pytest

from microgrid.atomic import ABANDONED, write_file
from microgrid.drawing import draw
from microgrid.drawing.explorer import explore
from microgrid.engine import Value
from microgrid.nn import Neuron
from microgrid.training import History

OUTPUT = Value(2.0, "x") * 3.0

WRITERS = {
    "model.json": lambda path: Neuron(40, seed=0).save(path),
    "graph.svg": lambda path: draw(OUTPUT).save(path),
    "graph.dot": lambda path: draw(OUTPUT).save(path),
    "page.html": lambda path: explore(OUTPUT).save(path),
    "curve.png": lambda path: History(loss=[2.0, 1.0]).plot(path),
    "curve.pdf": lambda path: History(loss=[2.0, 1.0]).plot(path),
}
each_writer = pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)


@contextlib.contextmanager
def no_more_room():
    """No file may grow beyond 100 bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@each_writer
def test_where_there_is_no_more_room_the_old_file_stays_and_nothing_else(tmp_path, name, write):
    path = tmp_path / name
    path.write_text("old")
    with no_more_room(), pytest.raises(OSError, match=rf"cannot write '.*{name}': .*; nothing was changed"):
        write(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [name]


@each_writer
def test_a_link_stays_a_link_and_the_file_that_it_leads_to_is_replaced(tmp_path, name, write):
    (tmp_path / "store").mkdir()
    link, file = tmp_path / name, tmp_path / "store" / name
    file.write_text("old")
    link.symlink_to(file)
    write(link)
    assert link.is_symlink()
    assert not file.is_symlink()
    assert file.read_bytes() not in (b"", b"old")


@each_writer
def test_a_replaced_file_keeps_its_permissions_and_a_new_one_gets_the_usual_ones(tmp_path, name, write):
    (tmp_path / "usual").write_text("")
    path = tmp_path / name
    write(path)
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    path.chmod(0o640)
    write(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_two_threads_that_write_one_file_leave_what_one_of_them_wrote(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(4)]
    failures = []

    def write(content):
        try:
            for _ in range(25):
                write_file(path, content)
                assert path.read_bytes() in contents
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == ["file"]


def test_a_draft_whose_writer_was_killed_is_removed_later_and_that_of_another_writer_stays(tmp_path, monkeypatch):
    path = tmp_path / "file"
    with monkeypatch.context() as killed:
        for function in (os, "replace"), (type(path), "unlink"):
            killed.setattr(*function, lambda *arguments, **options: None)
        write_file(path, b"first")
    (draft,) = tmp_path.iterdir()
    write_file(path, b"second")
    assert sorted(tmp_path.iterdir()) == [draft, path], "it may be another's, who is writing now"
    long_ago = time.time() - ABANDONED - 1.0
    for old in draft, path:
        os.utime(old, (long_ago, long_ago))
    (tmp_path / ".file.mine").write_text("")
    os.utime(tmp_path / ".file.mine", (long_ago, long_ago))
    write_file(path, b"third")
    assert sorted(os.listdir(tmp_path)) == [".file.mine", "file"]
    assert path.read_bytes() == b"third"


def test_a_write_protected_file_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # what root is not told
    with pytest.raises(PermissionError, match="it is write-protected"):
        write_file(path, b"new")
    assert path.read_text() == "old"


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"text")
    reader.join()
    assert read == [b"text"]
    assert pipe.is_fifo()


def test_a_name_as_long_as_a_name_may_be_is_written(tmp_path):
    write_file(tmp_path / ("가" * 85), b"text")
    assert os.listdir(tmp_path) == ["가" * 85]
