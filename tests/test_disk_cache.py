"""The disk cache: what is put is got, whatever is on disk, and nothing on disk ends a program."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from minicomp import disk_cache
from minicomp.disk_cache import DiskCache, cache_directory
from minicomp.errors import CacheWarning


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICOMP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(disk_cache, "_warned", set())
    monkeypatch.setattr(disk_cache, "_unwritable", set())


@pytest.fixture
def cache():
    return DiskCache("things")


def files_below(directory):
    return [path for path in Path(directory).rglob("*") if path.is_file()]


def warnings_of(action):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    return [str(warning.message) for warning in caught if warning.category is CacheWarning]


# --- the plain store ---


@pytest.mark.parametrize("key", ["a", "", "softmax 64x1000\n", "größe ✓", "x" * 5000, "\udcff"])
@pytest.mark.parametrize("data", [b"", b"\0", b"object code" * 1000])
def test_what_was_put_is_got(cache, key, data):
    assert cache.get(key) is None
    cache.put(key, data)
    assert cache.get(key) == data


def test_put_replaces(cache):
    cache.put("a", b"one")
    cache.put("a", b"two")
    assert cache.get("a") == b"two"
    assert len(files_below(cache_directory())) == 1


def test_remove_forgets_and_tolerates_absence(cache):
    cache.put("a", b"one")
    cache.remove("a")
    cache.remove("a")
    assert cache.get("a") is None


def test_kinds_are_apart(cache):
    cache.put("a", b"one")
    assert DiskCache("others").get("a") is None


def test_another_process_gets_it(cache):
    cache.put("a", b"from here")
    program = "from minicomp.disk_cache import DiskCache; print(DiskCache('things').get('a'))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert output.stdout.strip() == b"b'from here'"


# --- where it is ---


def test_directory_from_the_environment_at_each_use(cache, tmp_path, monkeypatch):
    cache.put("a", b"one")
    monkeypatch.setenv("MINICOMP_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert cache.get("a") is None
    assert cache.path("a").is_relative_to(tmp_path / "elsewhere")


def test_directory_without_our_variable(monkeypatch):
    monkeypatch.delenv("MINICOMP_CACHE_DIR")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/ada")
    assert cache_directory() == Path("/var/ada/minicomp")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_directory() == Path("/home/ada/.cache/minicomp")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path("/home/ada/.cache/minicomp")


def test_a_tilde_is_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("MINICOMP_CACHE_DIR", "~/fast/cache")
    assert cache_directory() == Path("/home/ada/fast/cache")


def test_only_the_owner_can_enter(cache):
    cache.put("a", b"one")
    for directory in (cache_directory(), cache.path("a").parent.parent, cache.path("a").parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(cache.path("a").stat().st_mode) == 0o600


# --- what may be on disk ---


def flip(position):
    def damage(content):
        damaged = bytearray(content)
        damaged[position] ^= 1
        return bytes(damaged)

    return damage


DAMAGES = {
    "empty": lambda content: b"",
    "header alone": lambda content: content[:17],
    "one byte short": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "one byte more": lambda content: content + b"x",
    "magic": flip(0),
    "checksum": flip(20),
    "length of the key": flip(49),
    "key": flip(53),
    "data": flip(-1),
    "text": lambda content: b"<html>not found</html>",
    "pickle": lambda content: b"\x80\x04\x95\x1a\x00\x00\x00cos\nsystem\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_a_miss_named_once_and_made_anew(cache, damage):
    cache.put("key", b"payload")
    path = cache.path("key")
    path.write_bytes(damage(path.read_bytes()))
    results = []
    messages = warnings_of(lambda: results.extend([cache.get("key"), cache.get("key")]))
    assert results == [None, None]
    assert len(messages) == 1 and str(path) in messages[0]
    assert warnings_of(lambda: cache.put("key", b"again")) == []
    assert cache.get("key") == b"again"


def test_an_entry_under_another_keys_name_is_a_miss(cache):
    cache.put("a", b"one")
    cache.path("b").parent.mkdir(exist_ok=True)
    shutil.copy(cache.path("a"), cache.path("b"))
    results = []
    assert len(warnings_of(lambda: results.append(cache.get("b")))) == 1
    assert results == [None]


def test_a_directory_in_the_place_of_an_entry(cache):
    cache.path("a").mkdir(parents=True)
    results = []

    def use():
        results.append(cache.get("a"))
        cache.put("a", b"one")

    assert 1 <= len(warnings_of(use)) <= 2
    assert results == [None]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="wants chown")
def test_another_users_file_is_not_trusted(cache):
    cache.put("a", b"one")
    os.chown(cache.path("a"), 12345, -1)
    results = []
    messages = warnings_of(lambda: results.append(cache.get("a")))
    assert results == [None]
    assert len(messages) == 1 and "another user" in messages[0]


# --- what the file system may refuse ---


def use_often(cache):
    for number in range(5):
        cache.put(f"key {number}", b"data")
        assert cache.get(f"key {number}") is None
        cache.remove(f"key {number}")


@pytest.mark.parametrize("below", ["", "cache", "deep/down"])
def test_a_path_through_a_file_warns_once(cache, tmp_path, monkeypatch, below):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MINICOMP_CACHE_DIR", str(tmp_path / "file" / below))
    messages = warnings_of(lambda: use_often(cache))
    assert len(messages) == 1
    assert str(tmp_path / "file") in messages[0] and "MINICOMP_CACHE_DIR" in messages[0]


def refuse(number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize("call", ["os.replace", "tempfile.mkstemp", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_warns_once(cache, monkeypatch, call, number):
    monkeypatch.setattr(call, refuse(number))
    messages = warnings_of(lambda: use_often(cache))
    assert len(messages) == 1 and os.strerror(number) in messages[0]
    assert files_below(cache_directory()) == []


def test_a_disk_that_fills_up_keeps_what_is_there(cache, monkeypatch):
    cache.put("old", b"data")
    monkeypatch.setattr("os.replace", refuse(errno.ENOSPC))
    assert len(warnings_of(lambda: cache.put("new", b"data"))) == 1
    assert cache.get("old") == b"data"
    assert len(files_below(cache_directory())) == 1


def test_what_cannot_be_read_warns_once(cache, monkeypatch):
    cache.put("a", b"data")
    monkeypatch.setattr("builtins.open", refuse(errno.EIO))
    results = []
    messages = warnings_of(lambda: results.extend([cache.get("a"), cache.get("a")]))
    assert results == [None, None] and len(messages) == 1


# --- its size ---


def test_the_least_recently_used_are_evicted(monkeypatch):
    # Every name looks after its directory here, and all are in one.
    monkeypatch.setattr(disk_cache, "SHARDS", 1)
    paths = {}

    def path(self, key):
        return paths.setdefault(key, cache_directory() / "things" / "0" / f"00{key}")

    monkeypatch.setattr(DiskCache, "path", path)
    cache = DiskCache("things", limit=5500)
    long_ago = time.time() - 10 * disk_cache.RENEW_SECONDS
    for number in range(5):
        cache.put(f"{number}", bytes(1000))
        os.utime(cache.path(f"{number}"), (long_ago + number, long_ago + number))
    assert cache.get("0") is not None  # used now: the oldest are 1 and 2
    cache.put("5", bytes(1000))
    cache.put("6", bytes(1000))
    kept = [number for number in range(7) if cache.path(f"{number}").exists()]
    assert kept == [0, 3, 4, 5, 6]


def test_the_size_stays_bounded():
    cache = DiskCache("things", limit=400_000)
    for number in range(1000):
        cache.put(f"{number}", bytes(2000))
    total = sum(path.stat().st_size for path in files_below(cache_directory()))
    assert total < 2 * cache.limit


def test_an_entry_larger_than_the_limit_is_kept_alone(monkeypatch):
    cache = DiskCache("things", limit=100)
    keys = [str(number) for number in range(200)]
    key = next(key for key in keys if cache.path(key).name[1] == "0")
    cache.put(key, bytes(1000))
    assert cache.get(key) == bytes(1000)


# --- many processes ---

HAMMER = """
import sys, warnings
warnings.simplefilter("error")
from minicomp.disk_cache import DiskCache
cache = DiskCache("things", limit=20_000)
for turn in range(150):
    cache.put("shared", bytes([turn]) * (turn * 50))
    data = cache.get("shared")
    assert data is None or len(set(data)) <= 1 and len(data) == (data[0] if data else 0) * 50
    cache.put(f"{sys.argv[1]} {turn}", b"own" * 100)
    if turn % 10 == 0:
        cache.remove("shared")
"""


def test_many_processes_at_once():
    processes = [
        subprocess.Popen([sys.executable, "-c", HAMMER, str(number)], stderr=subprocess.PIPE)
        for number in range(4)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    names = [path.name for path in files_below(cache_directory())]
    assert names and not [name for name in names if name.startswith(disk_cache.TEMPORARY)]


def test_a_cache_deleted_meanwhile_is_made_again(cache, monkeypatch):
    def delete_first(*arguments, mkstemp=tempfile.mkstemp, **options):
        shutil.rmtree(cache_directory())
        return mkstemp(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", delete_first)
        assert warnings_of(lambda: cache.put("a", b"one")) == []
    cache.put("a", b"one")
    assert cache.get("a") == b"one"


def test_files_left_by_a_process_that_died_are_evicted_in_time(cache):
    key = next(str(number) for number in range(200) if cache.path(str(number)).name[1] == "0")
    cache.put(key, b"data")
    fresh, stale = (cache.path(key).with_name(f"{disk_cache.TEMPORARY}{n}") for n in range(2))
    for path in (fresh, stale):
        path.write_bytes(bytes(1000))
    os.utime(stale, (1e9, 1e9))
    DiskCache("things", limit=100).put(key, b"data")
    assert fresh.exists() and not stale.exists()
