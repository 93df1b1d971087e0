"""A picture within pages of others: it takes their theme, whatever the system prefers."""

import base64

import pytest
from playwright.sync_api import Browser

import microgrid as mg
from microgrid.drawing import draw
from microgrid.theme import DARK, LIGHT

SEEN = """() => {
  const svg = document.querySelector("svg");
  const color = (selector) => getComputedStyle(svg.querySelector(selector)).fill;
  return [color(".graph > polygon"), color(".node text")];
}"""


def rgb(color: str) -> str:
    return f"rgb({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))})"


PAGES = [
    ("<html><body>", "light"),
    ('<html><body data-jp-theme-light="true">', "light"),
    ('<html><body data-jp-theme-light="false">', "dark"),
    ('<html><body data-vscode-theme-kind="vscode-light">', "light"),
    ('<html><body data-vscode-theme-kind="vscode-dark">', "dark"),
    ('<html data-theme="light"><body>', "light"),
    ('<html data-theme="dark"><body>', "dark"),
    ('<html theme="dark"><body>', "dark"),
]


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize(("page", "theme"), PAGES)
def test_a_picture_in_a_page_takes_its_theme_and_paper(browser: Browser, page: str, theme: str, system: str) -> None:
    shown = browser.new_page(color_scheme=system)  # type: ignore[arg-type]
    shown.set_content(page + draw(mg.Value(2.0, label="x") * 3.0).svg)
    paper, ink = shown.evaluate(SEEN)
    shown.close()
    assert paper == "none"
    assert ink == rgb({"light": LIGHT, "dark": DARK}[theme]["ink"])


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize(("page", "theme"), PAGES)
def test_an_explorer_in_a_notebook_takes_its_theme(browser: Browser, page: str, theme: str, system: str) -> None:
    shown = browser.new_page(color_scheme=system)  # type: ignore[arg-type]
    shown.set_content(page + str(mg.explore(mg.Value(2.0, label="x") * 3.0)._repr_html_()))
    paper = shown.frames[1].locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    shown.close()
    assert paper == rgb({"light": LIGHT, "dark": DARK}[theme]["paper"])


@pytest.mark.parametrize("system", ["light", "dark"])
def test_a_picture_as_an_image_has_light_paper(browser: Browser, system: str) -> None:
    shown = browser.new_page(color_scheme=system)  # type: ignore[arg-type]
    data = base64.b64encode(draw(mg.Value(2.0, label="x") * 3.0).svg.encode()).decode()
    shown.set_content(f'<body style="background:#ccc"><img src="data:image/svg+xml;base64,{data}">')
    corner = shown.evaluate(
        """async () => {
          const image = document.querySelector("img");
          await image.decode();
          const context = document.createElement("canvas").getContext("2d");
          context.drawImage(image, 0, 0);
          return [...context.getImageData(3, 3, 1, 1).data];
        }"""
    )
    shown.close()
    assert corner == [255, 255, 255, 255]


@pytest.mark.parametrize(("system", "theme"), [("light", LIGHT), ("dark", DARK)])
def test_a_picture_that_is_a_page_follows_the_viewer(browser: Browser, system: str, theme: dict[str, str]) -> None:
    shown = browser.new_page(color_scheme=system)  # type: ignore[arg-type]
    shown.set_content(draw(mg.Value(2.0, label="x") * 3.0).html)
    assert shown.evaluate(SEEN) == ["none", rgb(theme["ink"])]
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == rgb(theme["paper"])
    shown.close()
