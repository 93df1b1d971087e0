"""A real browser: Debian's Chromium. Where it is missing these tests fail, they do not skip."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

import microgrid.drawing.page

AXE = Path(__file__).parents[2] / ".ci/javascript/node_modules/axe-core/axe.min.js"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
OPTIONS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--force-color-profile=srgb",
]


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    assert Path(CHROMIUM).exists(), f"no browser at {CHROMIUM}: apt-get install chromium, or set CHROMIUM to its path"
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
    yield browser
    browser.close()


class Opened:
    """A page opened from disk, which notes every request and every error."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)

    def open(self, shown: microgrid.drawing.page.Page, path: Path) -> Page:
        shown.save(path)
        self.page.goto(path.as_uri())
        return self.page

    def holds_back_every_request(self) -> bool:
        """Whether the page has asked for nothing but itself, and cannot ask for more: no server hears of it."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.5)
            asked, address = [*self.requests], f"http://127.0.0.1:{server.getsockname()[1]}/"
            attempts = self.page.evaluate(
                """async address => {
                  const image = new Image();
                  const failed = new Promise(done => (image.onerror = () => done("blocked")));
                  image.src = address + "x.png";
                  return [await fetch(address).catch(() => "blocked"), await failed];
                }""",
                address,
            )
            with pytest.raises(TimeoutError):
                server.accept()
        refused = all("Content Security Policy" in error or "violates" in error for error in self.errors)
        self.errors.clear()
        return asked == [self.page.url.partition("#")[0]] and attempts == ["blocked", "blocked"] and refused


@pytest.fixture(scope="session")
def barriers() -> Callable[[Page], list[str]]:
    """Return a function that names what axe-core finds serious on a page: what some people cannot use."""
    assert AXE.exists(), f"no axe-core at {AXE}: npm ci --prefix .ci/javascript"
    source = AXE.read_text(encoding="utf-8")

    def find(page: Page) -> list[str]:
        page.evaluate(f"() => {{ {source} }}")
        found = page.evaluate("axe.run()")["violations"]
        return [
            f"{problem['id']}: {problem['help']}: {[node['html'][:150] for node in problem['nodes'][:5]]}"
            for problem in found
            if problem["impact"] in ("serious", "critical")
        ]

    return find


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    page = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme="light")
    page.set_default_timeout(10_000)
    opened = Opened(page)
    yield opened
    page.close()
    assert not opened.errors, opened.errors


@pytest.fixture
def show(opened: Opened, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Return a function that opens an explorer or a watcher in the browser and returns the page."""
    return lambda shown: opened.open(shown, tmp_path / "page.html")
