"""Archives and pickles of strangers: each is built here and refused by name."""

import gzip
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from relaybp.data_prep import archives, bounded_reader
from relaybp.data_prep.errors import PrepError
from relaybp.data_prep.pickles import read_pickle
from tests import archive_cases as cases

# ---- archives that grow --------------------------------------------------------------------------


def test_an_archive_that_grows_is_refused_before_it_has_grown(tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_reader, "FREE_BYTES", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(cases.tar({"zeros": bytes(4 << 20)}, "gz"))
    (tmp_path / "out").mkdir()
    with pytest.raises(PrepError, match=r"bomb.tar.gz: it unpacks to 4,\d+,\d+ bytes .*not trust"):
        archives.extract(archives.members(path), tmp_path / "out", path)
    assert os.listdir(tmp_path / "out") == []


def test_a_sparse_file_counts_as_large_as_it_becomes(tmp_path):
    member = tarfile.TarInfo("sparse")
    member.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[386:482] = bytes(96)  # no piece of it is stored
    header[483:495] = b"77777777777\0"  # 8 GiB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "bomb.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(PrepError, match="bomb.tar: it unpacks to 8,589,934,591 bytes"):
        list(archives.members(path))


def test_a_header_that_grows_is_refused(tmp_path):
    """A name of 64 MiB, which the module tarfile would read in one go."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 64 << 20
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", 1) as out:
        out.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(64 << 20))
    with pytest.raises(PrepError, match=r"bomb.tar.gz: it has a header of 67,\d+,\d+ bytes"):
        list(archives.members(path))


def test_an_archive_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    path = tmp_path / "many.tar"
    path.write_bytes(cases.tar({f"{k}": b"" for k in range(3)}))
    assert len(list(archives.members(path))) == 3
    path.write_bytes(cases.tar({f"{k}": b"" for k in range(4)}))
    with pytest.raises(PrepError, match="many.tar holds more than 3 files"):
        list(archives.members(path))


def test_chained_headers_end_in_an_error(tmp_path):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1
    path = tmp_path / "chain.tar"
    path.write_bytes((member.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 5000)
    with pytest.raises(PrepError, match="chain.tar: .*damaged"):
        list(archives.members(path))


# ---- pickles -------------------------------------------------------------------------------------

CALLS = [
    b"cos\nsystem\n(S'touch called'\ntR.",
    b'cbuiltins\neval\n(S\'open("called", "w")\'\ntR.',
    b"cnumpy\nload\n(S'x'\ntR.",
    b"(S'touch called'\nios\nsystem\n.",
    b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch called\x85R.",
    b"cnumpy\nndarray.dump\n(S'called'\ntR.",
    b"\x82\x01.",  # an extension of copyreg
    b"Px\n.",  # an object from elsewhere
]


@pytest.mark.parametrize("data", CALLS)
def test_a_pickle_calls_nothing(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meta").write_bytes(data)
    with pytest.raises(PrepError, match="meta: not a readable pickle"):
        read_pickle("meta", ["x"])
    assert os.listdir() == ["meta"]


class Pointers:
    """Pickles as an array of objects whose pointers come from the file."""

    def __reduce__(self):
        make, arguments, _ = np.empty(0).__reduce__()
        return make, arguments, (1, (1,), Objects(), False, struct.pack("q", 0x41414141))


class Objects:
    """Pickles as the dtype of objects, without the flag that keeps numpy from raw pointers."""

    def __reduce__(self):
        return np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)


def test_an_array_of_objects_is_refused(tmp_path):
    (tmp_path / "meta").write_bytes(pickle.dumps({b"x": Pointers()}, 3))
    with pytest.raises(PrepError, match="an array of 'O8'; expected plain numbers"):
        read_pickle(tmp_path / "meta", ["x"])


def test_arrays_of_numbers_are_read(tmp_path):
    for array in (
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.arange(6, dtype=">i4").reshape(3, 2),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
    ):
        (tmp_path / "data").write_bytes(cases.python2_pickle({"x": array}))
        (found,) = read_pickle(tmp_path / "data", ["x"])
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_a_pickle_cannot_ask_for_a_table_of_gigabytes(tmp_path):
    (tmp_path / "meta").write_bytes(b"]r\xff\xff\xff\x7f.")
    with pytest.raises(PrepError, match="value number 2147483647 at byte 1"):
        read_pickle(tmp_path / "meta", ["x"])
