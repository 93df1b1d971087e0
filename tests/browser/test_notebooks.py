"""The explorer where notebooks are read: JupyterLab live and untrusted, exported by nbconvert, and marimo."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from playwright.sync_api import Browser, FrameLocator, expect

import microgrid

CODE = """\
from microgrid import Value
from microgrid.drawing.explorer import explore

a, b, f = Value(2.0, label="a"), Value(-3.0, label="b"), Value(-2.0, label="f")
e = a * b
e.label = "e"
L = (e + 10) * f
L.label = "L"
explore(L)
"""

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(microgrid.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
START = 60  # seconds that a server may take until it answers


@contextmanager
def serve(folder: Path, *command: str) -> Iterator[str]:
    """Run a Python module as a server on a free port; yield its address, and end it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    arguments = [sys.executable, "-m", *[part.replace("PORT", str(port)) for part in command]]
    log = folder / "server.log"
    with (
        log.open("w") as output,
        subprocess.Popen(arguments, cwd=folder, env=ENVIRONMENT, stdout=output, stderr=output) as server,
    ):
        try:
            deadline = time.monotonic() + START
            while True:
                try:
                    urlopen(address, timeout=5).close()
                    break
                except (URLError, OSError):
                    assert server.poll() is None, f"the server ended: {log.read_text()}"
                    assert time.monotonic() < deadline, f"no answer at {address}: {log.read_text()}"
                    time.sleep(0.3)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=20)


@contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    with serve(
        folder,
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=PORT",
        "--IdentityProvider.token=",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--ServerApp.root_dir=.",
    ) as address:
        yield address


def plays(frame: FrameLocator) -> None:
    """Step to the end and edit a leaf, as a reader would, and see both passes follow."""
    expect(frame.locator("#now")).to_contain_text("The leaves", timeout=60_000)
    frame.locator("#forward").click()
    expect(frame.locator("#now")).to_contain_text("e = a × b")
    frame.locator("#last").click()
    expect(frame.locator("#now")).to_contain_text("a.grad += −2 × −3 = 6")
    frame.get_by_label("b", exact=True).fill("5")
    expect(frame.locator("#result")).to_have_text("L = −40")
    expect(frame.locator("#now")).to_contain_text("a.grad += −2 × 5 = −10")


def notebook() -> nbformat.NotebookNode:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)], metadata={"kernelspec": kernel})


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that was run elsewhere, so that nobody here has trusted it."""
    folder = tmp_path_factory.mktemp("executed")
    nbformat.write(notebook(), folder / "source.ipynb")
    convert(folder, "notebook", "--execute", "--output=executed.ipynb", "source.ipynb")
    return folder / "executed.ipynb"


def convert(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "nbconvert", "--to", *arguments]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_jupyterlab_runs_the_cell_steps_and_edits(browser: Browser, tmp_path: Path) -> None:
    nbformat.write(notebook(), tmp_path / "lesson.ipynb")
    with jupyter_lab(tmp_path) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}/lab/tree/lesson.ipynb?reset")
        expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)
        page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
        page.get_by_role("button", name="Run this cell and advance").click()
        plays(page.frame_locator(".jp-OutputArea iframe[sandbox=allow-scripts]"))
        expect(page.locator(".microgrid-still")).to_be_hidden()
        page.close()


def test_jupyterlab_shows_the_picture_when_reopened_untrusted(browser: Browser, executed: Path) -> None:
    with jupyter_lab(executed.parent) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}/lab/tree/{executed.name}?reset")
        picture = page.locator(".jp-OutputArea img[src^='data:image/svg+xml']")
        expect(picture).to_be_visible(timeout=60_000)
        assert page.locator(".jp-OutputArea iframe").count() == 0, "an untrusted notebook runs nothing"
        drawn = "e => [e.naturalWidth, e.getBoundingClientRect().width]"
        assert min(picture.evaluate(drawn)) > 300, "the picture is drawn, not broken"
        page.close()


def test_notebook_exported_by_nbconvert_plays_offline(browser: Browser, executed: Path) -> None:
    convert(executed.parent, "html", executed.name)
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    page.goto(executed.with_suffix(".html").as_uri())
    plays(page.frame_locator("iframe[sandbox=allow-scripts]"))
    expect(page.locator(".microgrid-still")).to_be_hidden()
    context.close()


def test_marimo_plays(browser: Browser, tmp_path: Path) -> None:
    cell = "".join(f"    {line}\n" for line in CODE.splitlines())
    (tmp_path / "lesson.py").write_text(
        f"import marimo\n\napp = marimo.App()\n\n\n@app.cell\ndef _():\n{cell}    return\n\n\n"
        'if __name__ == "__main__":\n    app.run()\n',
        encoding="utf-8",
    )
    command = ("marimo", "run", "lesson.py", "--headless", "--no-token", "--port=PORT")
    with serve(tmp_path, *command) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(address)
        plays(page.frame_locator("iframe[sandbox=allow-scripts]"))
        page.close()
