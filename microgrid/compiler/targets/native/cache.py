"""Machine code on disk, so that a program is compiled once: ``~/.cache/microgrid``, or what ``MICROGRID_CACHE`` says.

Code from here is run, so on POSIX the folder is used only if it is the user's own and closed to others. It is
opened once for each access, and files are named from there: nobody can put another one in its place meanwhile.
A file that is not whole, or not the one that is asked for, counts as missing. So does whatever goes wrong.
"""

import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT = 256_000_000
"""So many bytes are kept, about; of more, those that were not used for the longest time go."""

_MAGIC = b"microgrid machine code 1\n"
_OURS = re.compile(r"[0-9a-f]{64}(\.[0-9a-f]{12}\.draft)?")
"""The names of our files: ``MICROGRID_CACHE`` may be a folder that has others."""
_HEADER = len(_MAGIC) + hashlib.sha256().digest_size


class _UnusableError(Exception):
    """Why there is no cache."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """An open folder: its files are named ``prefix + name``, from the folder ``descriptor`` on if there is one."""

    prefix: str
    descriptor: int | None


def read(key: str) -> bytes | None:
    """Return what was written under a key: letters and digits."""
    with suppress(_UnusableError, OSError), _folder() as folder:
        flags = os.O_RDONLY
        for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"):  # the last: a pipe would be waited for
            flags |= getattr(os, name, 0)
        with open(os.open(folder.prefix + key, flags, dir_fd=folder.descriptor), "rb") as file:
            content = file.read()
            if content[:_HEADER] == _header(key, code := content[_HEADER:]):
                with suppress(OSError):
                    os.utime(file.fileno() if os.utime in os.supports_fd else folder.prefix + key)
                return code
    return None


def write(key: str, code: bytes) -> None:
    """Keep some bytes under a key: all of them or, if anything goes wrong, none."""
    with suppress(_UnusableError, OSError), _folder() as folder:
        descriptor = folder.descriptor
        draft = f"{folder.prefix}{key}.{os.urandom(6).hex()}.draft"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with open(os.open(draft, flags, 0o600, dir_fd=descriptor), "wb") as file:
                file.write(_header(key, code) + code)
            os.replace(draft, folder.prefix + key, src_dir_fd=descriptor, dst_dir_fd=descriptor)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft, dir_fd=descriptor)
            raise
        if key.startswith("0"):  # keys are digests, so this is one time in sixteen
            _shrink(folder)


def unusable() -> str | None:
    """Return why there is no cache, if there is none."""
    try:
        with _folder():
            return None
    except (_UnusableError, OSError) as reason:
        return str(reason)


def _header(key: str, code: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + b"\n" + code).digest()


def _place() -> Path:
    asked = os.environ.get("MICROGRID_CACHE", "")
    if asked.lower() == "off":
        raise _UnusableError("MICROGRID_CACHE is off")
    try:
        if asked:
            return Path(asked).expanduser()
        home = Path.home()
    except RuntimeError as error:
        raise _UnusableError(str(error)) from None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "microgrid" / "Cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "microgrid"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if os.path.isabs(xdg) else home / ".cache") / "microgrid"


@contextmanager
def _folder() -> Iterator[_Folder]:
    """Open the folder, made if there is none."""
    place = _place()
    with suppress(FileExistsError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(0o700)
    if os.open not in os.supports_dir_fd:  # Windows, where a user's folders are closed to others
        yield _Folder(f"{place}{os.sep}", None)
        return
    if place.is_symlink():
        raise _UnusableError(f"{place} is a link")
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if status.st_uid != os.geteuid():
            raise _UnusableError(f"{place} belongs to another user")
        if mode != 0o700:
            raise _UnusableError(f"{place} has the mode {mode:03o}, not 700; run: chmod 700 {place}")
        yield _Folder("", descriptor)
    finally:
        os.close(descriptor)


def _shrink(folder: _Folder) -> None:
    with os.scandir(folder.prefix if folder.descriptor is None else folder.descriptor) as entries:
        ours = [x for x in entries if _OURS.fullmatch(x.name) and x.is_file(follow_symlinks=False)]
        files = [(entry.stat(), entry.name) for entry in ours]
    kept = 0
    for status, name in sorted(files, key=lambda file: file[0].st_mtime, reverse=True):
        kept += status.st_size
        if kept > LIMIT:
            os.unlink(folder.prefix + name, dir_fd=folder.descriptor)
