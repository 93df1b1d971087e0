"""What the tests of the page's tools share."""

from playwright.sync_api import expect

import microgrid as mg


def values(**numbers):
    return [mg.Value(x, label=name) for name, x in numbers.items()]


def reused():
    """L = (a·b + c)·a: a is used twice, and c.grad is not 1."""
    a, b, c = values(a=2.0, b=-3.0, c=10.0)
    e = a * b
    e.label = "e"
    d = e + c
    d.label = "d"
    output = d * a
    output.label = "L"
    return output


def open_tool(page, name, by="mouse"):
    if by == "mouse":
        page.click(f"#tool-{name}")
    else:
        page.focus(f"#tool-{name}")
        page.keyboard.press("Enter")
    expect(page.locator(f"#tool-{name}")).to_have_attribute("aria-expanded", "true")
