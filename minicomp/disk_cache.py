"""Bytes kept on disk between processes: compiled objects and tuning records.

In: a key (any text) and bytes. Out, in this process or a later one: the same bytes, or None.

    cache = DiskCache("objects")
    cache.put("softmax 64x1000 znver4", object_code)
    cache.get("softmax 64x1000 znver4")        # object_code; None in a fresh cache

A cache may cost a recompilation, never a result: every entry carries its key and a checksum, so
a damaged or foreign file is a miss, and whatever the file system refuses is a `CacheWarning`
once, after which work goes on without the cache. Nothing read is ever executed or unpickled
here; entries live in a directory that only its owner can write, because compiled objects are
run by whoever reads them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import tempfile
import time
import warnings
from pathlib import Path

from minicomp.errors import CacheWarning

# File layout: magic, SHA-256 of all that follows, length of the key (4 bytes), key, data.
MAGIC = b"minicomp cache 1\n"
DIGEST_SIZE = 32

TEMPORARY = "new-"  # how the names of files begin that are still being written

DEFAULT_LIMIT = 512 << 20
# A kind of entry is spread over this many directories, by the first hex digit of the name, and
# each is kept within its share of the limit, so that looking for what to evict reads one of
# them: at worst some thousand files.
SHARDS = 16
# Reading an entry renews its time stamp, which is what eviction goes by; to the hour is enough,
# and saves writing on most reads.
RENEW_SECONDS = 3600

# In this process: what has been warned of, and the caches that writing has failed in.
_warned: set[tuple[str, object]] = set()
_unwritable: set[Path] = set()


def cache_directory() -> Path:
    """Where everything is kept: MINICOMP_CACHE_DIR, or `minicomp` in the user's cache directory.

    Looked up at each use, so that a change of the environment takes effect at once.
    """
    chosen = os.environ.get("MINICOMP_CACHE_DIR")
    if chosen:
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification says to ignore a relative path
        base = os.path.expanduser(os.path.join("~", ".cache"))
    if not os.path.isabs(base):  # an account without a home
        return Path(tempfile.gettempdir()) / f"minicomp-{_user()}"
    return Path(base) / "minicomp"


class DiskCache:
    """Entries of one kind, under `cache_directory() / kind`. No method raises.

    Safe with many processes at once: an entry appears whole, by a rename, or not at all.
    `limit` bounds the kind's size in bytes, roughly: the least recently used entries go first.
    """

    def __init__(self, kind: str, limit: int = DEFAULT_LIMIT):
        self.kind = kind
        self.limit = limit

    def path(self, key: str) -> Path:
        """The file that holds, or would hold, the entry of `key`."""
        name = hashlib.sha256(_encode(key)).hexdigest()
        return cache_directory() / self.kind / name[0] / name

    def get(self, key: str) -> bytes | None:
        """The bytes put under `key`, or None."""
        path = self.path(key)
        try:
            content = _read_own_file(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            _warn_of_failure("read", error)
            return None
        data = _unpack(content, key)
        if data is None:
            _warn(
                f"{path} is damaged or is not what its name says; it is made anew", str(path), None
            )
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`, in place of what was there."""
        root = cache_directory()
        if root in _unwritable:
            return
        path = self.path(key)
        try:
            for directory in (root, path.parent.parent, path.parent):  # each closed to others
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_atomically(path, _pack(key, data))
            # One name in sixteen looks after its directory, so that a put is cheap on average.
            if path.name[1] == "0":
                _evict(path, self.limit // SHARDS)
        except FileNotFoundError:
            pass  # somebody is deleting the cache at this moment; the next put makes it again
        except OSError as error:
            _unwritable.add(root)
            _warn_of_failure("write", error)

    def remove(self, key: str) -> None:
        """Forget `key`."""
        with contextlib.suppress(OSError):  # what cannot be removed is still checked when read
            self.path(key).unlink()


def _encode(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _pack(key: str, data: bytes) -> bytes:
    encoded = _encode(key)
    body = len(encoded).to_bytes(4, "little") + encoded + data
    return MAGIC + hashlib.sha256(body).digest() + body


def _unpack(content: bytes, key: str) -> bytes | None:
    """The data of a file's content, or None if it is not a whole entry of `key`."""
    encoded = _encode(key)
    body = content[len(MAGIC) + DIGEST_SIZE :]
    if not content.startswith(MAGIC + hashlib.sha256(body).digest()):
        return None
    if not body.startswith(len(encoded).to_bytes(4, "little") + encoded):
        return None
    return body[4 + len(encoded) :]


def _read_own_file(path: Path) -> bytes:
    """A file's content, its time stamp renewed. PermissionError if it is another user's."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != _user():
            raise PermissionError(errno.EPERM, "the file belongs to another user", str(path))
        content = file.read()
    if time.time() - status.st_mtime > RENEW_SECONDS:
        with contextlib.suppress(OSError):  # a cache that cannot be written is still of use
            os.utime(path)
    return content


def _write_atomically(path: Path, content: bytes) -> None:
    # No fsync: after a power failure the checksum tells a file that was not written out.
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _evict(newest: Path, limit: int) -> None:
    """Remove the least recently used files beside `newest` until they fit in `limit` bytes."""
    files = []
    lately = time.time() - RENEW_SECONDS
    with os.scandir(newest.parent) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                status = entry.stat()
                if not entry.name.startswith(TEMPORARY) or status.st_mtime < lately:
                    files.append((status.st_mtime, status.st_size, entry.path))
    excess = sum(size for _, size, _ in files) - limit
    for _, size, path in sorted(files):
        if excess <= 0:
            break
        if path != str(newest):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            excess -= size


def _user() -> int:
    """This process's user id; 0 where there are none, as in `os.stat` there."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _warn_of_failure(action: str, error: OSError) -> None:
    # Where a file is in a directory's place, reading and making the directory differ in the error.
    reason, text = error.errno, error.strerror or str(error)
    if reason == errno.EEXIST:
        reason, text = errno.ENOTDIR, os.strerror(errno.ENOTDIR)
    root = cache_directory()
    _warn(
        f"cannot {action} the cache in {root}: {text} ({error.filename or root}); going on "
        "without it. MINICOMP_CACHE_DIR names another directory",
        str(root),
        reason,
    )


def _warn(message: str, subject: str, reason: object) -> None:
    """Warn once per process of each reason and file or directory."""
    if (subject, reason) not in _warned:
        _warned.add((subject, reason))
        warnings.warn(message, CacheWarning, stacklevel=4)
