"""Libraries of compiled code: made at first use, once for all processes, or reported as missing."""

import os
import subprocess
import sys

import pytest

from caffe_plain import native
from caffe_plain.native import NativeLibrary, NotCompiled, run_compiler

FIRST_USE = """
import sys, time
from pathlib import Path
from caffe_plain.glog import show_log
from caffe_plain.native import NativeLibrary, run_compiler
show_log()
def compile(sources, path):
    with open("compiled", "a") as file:
        file.write("x")
    time.sleep(1)  # long enough for the other process to come here too
    run_compiler(["cc", "-shared", "-fPIC", *map(str, sources), "-o", str(path)])
one = NativeLibrary("one", [Path(sys.argv[1])], compile, "Python does its work")
one.load()
one.load()
print(one.load() and one.load().one(), one.path, one.state(), sep="\\n")
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "sources" / "one.c"
    path.parent.mkdir()
    path.write_text("int one(void) { return 1; }\n")
    return path


def start(source, **environment):
    """A process that uses the library three times, in the folder above its sources."""
    return subprocess.Popen(
        [sys.executable, "-c", FIRST_USE, str(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=source.parents[1],
        env={**os.environ, **environment},
    )


def needs_compiler():
    try:
        run_compiler(["cc", "--version"])
    except NotCompiled as error:
        pytest.skip(str(error))


def test_two_processes_at_once_compile_it_once(source):
    needs_compiler()
    done = [process.communicate(timeout=60) for process in [start(source), start(source)]]
    assert (source.parents[1] / "compiled").read_text() == "x"
    assert [out.splitlines()[0] for out, _ in done] == ["1", "1"]
    assert "".join(log for _, log in done).count("one: compiled") == 1


def test_another_source_replaces_it(source):
    needs_compiler()
    first = start(source).communicate(timeout=60)[0].splitlines()[1]
    source.write_text("int one(void) { return 2; }\n")
    value, second, _ = start(source).communicate(timeout=60)[0].splitlines()
    assert value == "2" and second != first
    assert [str(path) for path in source.parent.glob("*.so")] == [second]


def test_it_goes_into_the_users_cache_where_the_sources_cannot_be_written_to(
    source, tmp_path, monkeypatch
):
    monkeypatch.setattr(native.os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def compile(sources, path):
        path.write_bytes(b"no library")

    one = NativeLibrary("one", [source], compile, "Python does its work")
    assert one.load() is None
    assert one.state().startswith(f"none ({tmp_path}/cache/caffe/one-"), "cannot be loaded"
    assert [path.suffix for path in (tmp_path / "cache" / "caffe").glob("one-*")] == [".so"]
    assert not list(source.parent.glob("*.so"))


def test_without_a_compiler_it_says_so_once(source, tmp_path):
    out, log = start(source, PATH=str(tmp_path)).communicate(timeout=60)
    value, _, state = out.splitlines()
    assert value == "None"
    assert state == "none (no compiler: cc is not installed): Python does its work"
    assert log.count(f"one: {state}") == 1
    assert (source.parents[1] / "compiled").read_text() == "x"  # and was not tried again


@pytest.mark.parametrize(
    "text, found",
    [
        ("#include <no_such.h>\n", r"cc failed: .*one.c:1:10: fatal error: no_such.h"),
        ("int one(void) { return }\n", r"cc failed: .*one.c:1:\d+: error: "),
    ],
)
def test_the_compilers_first_error_is_the_reason(source, tmp_path, text, found):
    needs_compiler()
    source.write_text(text)
    with pytest.raises(NotCompiled, match=found) as error:
        run_compiler(["cc", "-c", str(source), "-o", str(tmp_path / "x.o")])
    assert "\n" not in str(error.value)


def test_nothing_is_compiled_where_that_is_forbidden(source, monkeypatch):
    monkeypatch.setenv(native.COMPILING, "0")
    one = NativeLibrary("one", [source], pytest.fail, "Python does its work")
    assert one.load() is None
    assert one.state() == "none (not compiled, and CAFFE_COMPILE is 0): Python does its work"
    assert [path.name for path in source.parent.iterdir()] == ["one.c"]
