"""Waiting for a page."""

from playwright.sync_api import Page


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression holds; Playwright's own way would be eval(), which the page forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(f"not within 5 seconds: {expression}")
