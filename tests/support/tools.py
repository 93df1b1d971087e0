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


def changes(page, action):
    """How often the document is changed by an action and the frame after it."""
    return page.evaluate(
        f"""async () => {{
          let count = 0;
          const observer = new MutationObserver(records => {{ count += records.length }});
          observer.observe(document, {{ attributes: true, characterData: true, childList: true, subtree: true }});
          {action};
          await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
          count += observer.takeRecords().length;
          observer.disconnect();
          return count;
        }}"""
    )


def smallest_text(page):
    """The size in pixels of the smallest text that is shown, and the text."""
    return page.evaluate(
        """() => {
          const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
          let least = [Infinity, ""];
          for (let text; (text = texts.nextNode()); ) {
            const holder = text.parentElement;
            if (!text.data.trim() || !holder.getBoundingClientRect().width || holder.closest("script, style")) continue;
            const matrix = holder.ownerSVGElement ? holder.getScreenCTM() : {a: 1, b: 0};
            const size = parseFloat(getComputedStyle(holder).fontSize) * Math.hypot(matrix.a, matrix.b);
            if (size < least[0]) least = [size, text.data];
          }
          return least;
        }"""
    )
