"""Changes that happen whole or not at all: to a file, and to the attributes of many objects."""

import os
import stat
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

ABANDONED = 3600.0
"""Seconds after which a draft is taken for one whose writer was killed."""


Assignments = tuple[Sequence[Any], str, Sequence[Any]]
"""Several objects, the name of an attribute, and its new value for each of them."""


def assign(*assignments: Assignments) -> None:
    """Set attributes of many objects: all of them or, if Ctrl-C comes before, none.

    Python runs signal handlers, and lets other threads run, between its own instructions, and the last line is
    one call of C. So that nothing runs within, the attributes must be plain ones or slots, not properties.
    """
    objects = [each for things, _, _ in assignments for each in things]
    names = [name for things, name, _ in assignments for _ in things]
    values = [value for _, _, new in assignments for value in new]
    deque(map(setattr, objects, names, values), maxlen=0)


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it is complete or, whatever goes wrong, as it was before.

    The content is written to a draft of unique name in the same folder, which then replaces the file and takes its
    permissions. A link stays a link: its target is replaced. Anything but a regular file, such as ``/dev/stdout``, is
    written directly. A draft is left behind only if the process is killed; a later write of the file removes it after
    ``ABANDONED`` seconds.

    Raises:
        OSError: naming the path and what to do.
    """
    place = Path(os.path.realpath(path))
    name = f".{place.name[:40]}."  # the name of a file has at most 255 bytes
    draft = place.with_name(f"{name}{os.urandom(6).hex()}.draft")
    try:
        mode = place.stat().st_mode if place.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            place.write_bytes(content)
            return
        if mode is not None and not os.access(place, os.W_OK):
            raise PermissionError(13, "it is write-protected")
        try:
            with open(draft, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                draft.chmod(stat.S_IMODE(mode))
            os.replace(draft, place)
        finally:
            draft.unlink(missing_ok=True)
            _remove_abandoned(place.parent, name)
    except OSError as error:
        raise type(error)(
            error.errno,
            f"cannot write {str(path)!r}: {error.strerror}. Give a path in a folder that exists and that you can "
            "write to; nothing was changed",
        ) from error


def _remove_abandoned(folder: Path, name: str) -> None:
    long_ago = time.time() - ABANDONED
    with suppress(OSError):  # another process may have removed it first
        for file in folder.iterdir():
            if file.name.startswith(name) and file.suffix == ".draft" and file.stat().st_mtime < long_ago:
                file.unlink()
