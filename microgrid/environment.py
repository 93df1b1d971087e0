"""The environment of the package: other packages, which may be missing, and outputs that cannot show every letter."""

import codecs
import re
import sys
import unicodedata
from importlib import import_module
from typing import Any, TextIO


def require(module: str, what: str, extra: str = "") -> Any:
    """Import a third-party module for ``what``.

    Raises:
        ModuleNotFoundError: if it is not installed, naming the extra that brings it, or itself.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package != module.partition(".")[0]:
            raise  # it is installed, but something that it needs is not
        raise ModuleNotFoundError(missing(what, package, extra=extra), name=package) from None


def missing(what: str, needed: str, *, extra: str = "", package: str = "") -> str:
    """Return the sentence for a missing package: who needs it, and the extra or the package to install."""
    source = f'"microgrid-autograd[{extra}]"' if extra else package or needed
    return f"{what} needs {needed}, which is not installed; run: pip install {source}"


# ---------------------------------------------------------------------------------------------------
# Output in an encoding that lacks letters, such as cp949 on a Korean Windows

PLAIN: dict[int, Any] = {
    **str.maketrans("−–—─×·•‘’′“”″✓✗∠⊘≈∂÷⌊⌋⌈⌉⁄�", "----***'''\"\"\"+!<o~d/[][]/?"),
    **str.maketrans({"∞": "inf", "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "←": "<-", "±": "+-", "∓": "-+"}),
    **str.maketrans({"√": "sqrt", "∛": "cbrt", "Σ": "sum"}),
}
"""Letters of mathematics in ASCII, where an output cannot show them."""

_HANDLER = "microgrid.plain"


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be encoded: an error handler of ``codecs``."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺⁽⁾ⁿˣ]+", r"^\g<0>", text).translate(PLAIN)
    return "".join(map(_letter, text)), error.end


def _letter(letter: str) -> str:
    """The letter without its accent, a Greek one by its name, or Python's escape for it."""
    name = unicodedata.name(letter, "")
    if name.startswith("GREEK") and "LETTER" in name:
        return name.split()[-1].lower()
    plain = "".join(c for c in unicodedata.normalize("NFKD", letter).translate(PLAIN) if not unicodedata.combining(c))
    return plain if plain.isascii() else letter.encode("ascii", "backslashreplace").decode()


codecs.register_error(_HANDLER, _plain)


def displayable(text: str, encoding: str | None = None) -> str:
    """Return a text as an output can show it, by default ``sys.stdout``: letters that it lacks become ASCII.

    For ``__str__`` and ``__repr__``, because ``print`` does not tell them its output.
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, _HANDLER).decode(encoding)


def replace_what_cannot_be_shown(stream: TextIO | None) -> None:
    """Make an output of this process replace letters that its encoding lacks by ASCII, instead of raising."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors=_HANDLER)
