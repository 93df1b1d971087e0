"""The progress of a training while it runs."""

import html
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from microgrid.environment import displayable
from microgrid.training.history import History

SECONDS_BETWEEN_UPDATES = 0.1


class Progress:
    """The display of progress: a bar in a terminal or in a notebook's cell, or at most ten lines in a log."""

    def __init__(self, total: int, epochs: int, quiet: bool) -> None:
        self.total = total
        self.epochs = epochs
        self.shown = 0.0
        self.printed = 0
        self.reason = ""
        self.bar: Any = None
        self.handle: Any = None
        self.show: Callable[[History], None] | None = None
        if quiet:
            return
        self.console = import_module("rich.console").Console(stderr=True)
        if self.console.is_jupyter:
            self.show = self._show_in_notebook
        elif self.console.is_terminal:
            rich = import_module("rich.progress")
            columns = [rich.BarColumn(16), rich.TimeElapsedColumn(), rich.TextColumn("{task.description}")]
            self.bar = rich.Progress(*columns, console=self.console, auto_refresh=False)
            self.task = self.bar.add_task("", total=self.total)
            self.show = self._show_in_terminal
        else:
            self.show = self._show_in_log

    def __enter__(self) -> "Progress":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def note(self, reason: str) -> None:
        """Say once why the model is not compiled; in a notebook below the bar."""
        self.reason = f"not compiled: {reason}" if reason else ""
        if reason and self.show not in (None, self._show_in_notebook):
            reason = displayable(self.reason, self.console.encoding)
            self.console.print(reason, soft_wrap=True, highlight=False, markup=False)

    def update(self, history: History) -> None:
        """Show the history, unless it was shown just before; always show the end."""
        now = time.monotonic()
        over = history.interrupted or len(history.loss) == self.epochs
        if self.show is not None and (over or now - self.shown >= SECONDS_BETWEEN_UPDATES):
            self.shown = now
            self.show(history)

    def _text(self, history: History) -> str:
        """The running epoch with the recent loss; a finished one with its mean loss."""
        done = len(history.loss)
        running = len(history.batch_loss) > done * history.batches
        recent = history.batch_loss[-20:] if running else history.loss[-1:]
        text = f"epoch {done + running}/{self.epochs}"
        text += f"  loss {sum(recent) / len(recent):.3g}" if recent else ""
        for name, shares in (("right", history.accuracy), ("validation", history.validation_accuracy)):
            text += f"  {name} {shares[-1]:.1%}" if shares else ""
        return text + ("  interrupted" if history.interrupted else "")

    def _show_in_terminal(self, history: History) -> None:
        self.bar.update(self.task, completed=len(history.batch_loss), description=self._text(history), refresh=True)

    def _show_in_notebook(self, history: History) -> None:
        text = self._text(history)
        bar = f'<progress value="{len(history.batch_loss)}" max="{self.total}" style="width: 10em"></progress>'
        note = f"<br>{html.escape(self.reason)}" if self.reason else ""
        shown = {"text/plain": "\n".join(filter(None, [text, self.reason])), "text/html": f"{bar} {text}{note}"}
        if self.handle is None:
            self.handle = import_module("IPython.display").display(shown, raw=True, display_id=True)
        else:
            self.handle.update(shown, raw=True)

    def _show_in_log(self, history: History) -> None:
        done = len(history.loss)
        if done == self.epochs or history.interrupted or done >= self.printed + max(1.0, self.epochs / 10):
            self.printed = done
            self.console.print(self._text(history), soft_wrap=True, highlight=False)
