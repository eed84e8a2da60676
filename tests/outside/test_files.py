"""Files from outside: each form is read rightly or refused in one line, in bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tracemalloc
import warnings
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ttd_core import input_files
from ttd_core.cli.evaluate import is_construction, read_program
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file, read_text_file

NUMBERS = [0.25, 0.75, 1e-300, 0.5]


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer formats
        np.lib.format.write_array(stream, np.asarray(array), **options)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of newer formats
        np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def with_header(header: str, content: bytes = b"", version: int = 1) -> bytes:
    """A ``.npy`` file whose header is any text."""
    text = header.encode()
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + content


def zipped(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal names
        with zipfile.ZipFile(stream, "w", method) as archive:
            for name, content in entries:
                archive.writestr(name, content)
    return stream.getvalue()


def encrypted(content: bytes) -> bytes:
    """The zip file with the mark of encryption on its last entry."""
    place = content.rindex(b"PK\x01\x02") + 8
    return content[:place] + b"\1" + content[place + 1 :]


TEXT = json.dumps(NUMBERS)
RIGHT = {
    "plain": TEXT.encode(),
    "byte order mark": TEXT.encode("utf-8-sig"),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-32": TEXT.encode("utf-32"),
    "CRLF": TEXT.replace(" ", "\r\n").encode(),
    "old Mac line ends": TEXT.replace(" ", "\r").encode(),
    "blank lines": f"\n\n {TEXT}\n\n".encode(),
    "gzip": gzip.compress(TEXT.encode()),
    "gzip of UTF-16": gzip.compress(TEXT.encode("utf-16")),
    "two parts of gzip": gzip.compress(TEXT[:10].encode()) + gzip.compress(TEXT[10:].encode()),
    "one number a line": b"0.25\n0.75\n1e-300\n0.5\n",
    "commas": b"0.25,0.75,1e-300,0.5\r\n",
    "a comma at the end": b"0.25,0.75,1e-300,0.5,\n",
    "semicolons": b"0.25; 0.75; 1e-300; 0.5",
    "tabs": b"0.25\t0.75\t1e-300\t0.5",
    "blanks": b"  2.5e-01   .75 1E-300\t5.0e-1\n".replace(b"\t", b" "),
    "numpy.savetxt": b"# heights\n2.500000000000000000e-01\n0.75\n1.0e-300\n+0.5\n",
    "a table in UTF-16": "0.25,0.75,1e-300,0.5".encode("utf-16"),
    "npy": npy(NUMBERS),
    "npy version 2": npy(NUMBERS, version=(2, 0)),
    "npy version 3": npy(NUMBERS, version=(3, 0)),
    "npy big-endian": npy(np.array(NUMBERS, ">f8")),
    "npy packed by gzip": gzip.compress(npy(NUMBERS)),
    "npy of Python 2": with_header(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4L,), }\n", np.array(NUMBERS).tobytes()
    ),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("file", ["h.json", "h", "h.NPY.gz", "h.data"])
def test_right_values_are_read(name, file, tmp_path) -> None:
    (tmp_path / file).write_bytes(RIGHT[name])
    assert np.array_equal(read_data_file(tmp_path / file), NUMBERS)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b'{"x": 1}\n{"x": 2}\n', [{"x": 1}, {"x": 2}]),
        (b"[1, 2]\n\n[3, 4]\n", [[1, 2], [3, 4]]),
        (b"x,y,r\n0.1,0.2,0.3\n0.4,0.5,0.6\n", {"x": [0.1, 0.4], "y": [0.2, 0.5], "r": [0.3, 0.6]}),
        (b',"h"\n0,0.5\n1,0.25\n', {"": [0, 1], "h": [0.5, 0.25]}),
        (b"h\n0.5\n0.25\n", {"h": [0.5, 0.25]}),
        (b"1 2 3\n4 5 6\n", [[1, 2, 3], [4, 5, 6]]),
        (b"nan\n-inf\n", "[nan, -inf]"),
        (b"[NaN, -Infinity, 1e999, -0.0]", "[nan, -inf, inf, -0.0]"),
        (b"[18446744073709551617]", [2**64 + 1]),
        (npy(np.float64(3.5)), np.array(3.5)),
        (npy(np.asfortranarray(np.arange(6.0).reshape(2, 3))), np.arange(6.0).reshape(2, 3)),
        (npy(np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])), {"a": np.array([1]), "b": np.array([2.0])}),
        (npz(arr_0=np.zeros(2)), {"arr_0": np.zeros(2)}),
        (zipped([("../x.npy", npy([1.0]))]), {"../x": np.array([1.0])}),
    ],
    ids=range(14),
)
def test_other_forms_are_read(content, value, tmp_path) -> None:
    (tmp_path / "file").write_bytes(content)
    read = read_data_file(tmp_path / "file")
    if isinstance(value, str):
        assert str(read) == value
    else:
        np.testing.assert_equal(read, value)


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
WRONG = {
    "empty": (b"", "not JSON: the file is empty"),
    "blank": (b" \n\xef\xbb\xbf", "not JSON"),
    "a comma too many": (b"[0.5, 0.5, ]", r"not JSON: .* line 1 column 1[12], where"),
    "Python": (b"h = [0.5, 0.5]", r"line 1 column 1, where 'h = \[0.5, 0.5\]' stands"),
    "cut": (b"[0.5, 0.", "where"),
    "two values": (b"[1] [2]", r"Extra data: line 1 column 5, where '\[2\]' stands"),
    "ragged table": (b"1 2 3\n4 5\n", "not JSON"),
    "decimal commas": (b"0,5;0,5", "not JSON"),
    "digits of another script": ("٠.٥\n٠.٥\n".encode(), "not JSON"),
    "underscores": (b"1_0\n1_0", "not JSON"),
    "a key twice": (b'{"h": [1], "h": [2]}', "the key 'h' stands twice"),
    "a huge integer": (b"[" + b"1" * 5000 + b"]", "a whole number of 5000 digits"),
    "deep": (b"[" * 150 + b"]" * 150, "nested deeper than 100 lists"),
    "deeper": (b"[" * 500_000, "nested too deeply|nested deeper"),
    "escapes": (b"\x1b[31mred", r"where '\\x1b\[31mred' stands"),
    "not text": (b"[0.5]\xff", "not UTF-8 text: byte 5"),
    "a web page": (b"<!DOCTYPE html>\n<html></html>", "where '<!DOCTYPE html>"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "an HDF5 file"),
    "bzip2": (b"BZh91AY&SY", "packed by bzip2: unpack it first"),
    "xz": (b"\xfd7zXZ\0\0", "packed by xz"),
    "a pickle": (b"\x80\x04\x95\x05", "a pickle, which is never read"),
    "gzip cut": (gzip.compress(b"[1]" * 999)[:-9], "damaged gzip file"),
    "gzip and more": (gzip.compress(b"[1]") + b"more", "damaged gzip file"),
    "npy cut": (npy(np.zeros(9))[:-1], "not a numpy array: it is cut short"),
    "npy of a claimed shape": (with_header(HUGE), "it is cut short"),
    "npy of a negative shape": (with_header(HUGE.replace("1000", "-1000")), "it is cut short"),
    "npy of a huge shape": (with_header(HUGE.replace("1000", "9" * 5000)), "not a numpy array"),
    "npy of no size": (with_header(HUGE.replace("<f8", "|V0")), "not a numpy array"),
    "npy of raw bytes": (npy(np.zeros(3, "V5")), "of type"),
    "npy of objects": (npy(np.array([{}], object)), "pickled objects, which are never read"),
    "npy of dates": (npy(np.zeros(3, "M8[s]")), "which is not read"),
    "npy of fields of objects": (npy(np.array([(1,)], [("a", "O")])), "pickled objects"),
    "npy of another version": (b"\x93NUMPY\x09\x00" + npy([1.0])[8:], "not a numpy array"),
    "npy header of brackets": (with_header("(" * 9000, version=2), "not a numpy array"),
    "npy header of a million": (with_header("1" * 1_000_000, version=2), "header claims 1000000 bytes"),
    "npy header that calls": (with_header("__import__('os').abort()"), "not a numpy array"),
    "npz without arrays in it": (zipped([("a.txt", b"1")]), "it holds 'a.txt', which is no array"),
    "npz of objects": (npz(a=np.array([{}], object)), "pickled objects"),
    "npz of two of one name": (
        zipped([("a.npy", npy([1.0])), ("a.npy", npy([2.0]))]),
        "two arrays named 'a'",
    ),
    "npz packed by lzma": (zipped([("a.npy", npy([1.0]))], zipfile.ZIP_LZMA), "packed otherwise"),
    "npz packed by bzip2": (zipped([("a.npy", npy([1.0]))], zipfile.ZIP_BZIP2), "packed otherwise"),
    "npz of very many": (zipped([(f"{i}.npy", b"") for i in range(1001)]), "more than 1000 arrays"),
    "npz cut": (npz(a=np.zeros(50))[:100], "not numpy arrays"),
    "npz encrypted": (encrypted(npz(a=np.zeros(9))), "'a' is encrypted"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_meant_is_refused_in_one_line(name, tmp_path) -> None:
    content, message = WRONG[name]
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match=message) as refusal:
        read_data_file(tmp_path / "file")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert str(refusal.value).startswith(f"{tmp_path / 'file'}: ")


def test_bombs_cost_little(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(input_files, "MAX_FILE_BYTES", 4_000_000)
    monkeypatch.setattr(input_files, "MAX_VALUES", 50_000)
    monkeypatch.setattr(input_files, "MAX_LISTS", 5_000)
    lying = bytearray(zipped([("a.npy", npy(np.zeros(10_000_000)))]))
    place = lying.rindex(b"PK\x01\x02")
    lying[place + 24 : place + 28] = struct.pack("<I", 100)
    bombs = {
        "gzip": gzip.compress(b"[" + b"0," * 20_000_000 + b"0]"),
        "zip": zipped([("a.npy", npy(np.zeros(10_000_000)))]),
        "several": zipped([(f"{name}.npy", npy(np.zeros(300_000))) for name in range(9)]),
        "lying zip": bytes(lying),
        "lists": b"[" + b"[]," * 1_000_000 + b"[]]",
        "objects": b"[" + b'{"a":{}},' * 300_000 + b"0]",
        "values": b"[" + b"0," * 1_000_000 + b"0]",
        "lines": b"0\n" * 1_000_000,
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
        tracemalloc.start()
        with pytest.raises(UsageError):
            read_data_file(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30_000_000, (name, peak)


examples = dict.fromkeys(("bytes", "values", "damaged", "headers"), 0)


def read_or_refused(path: Any, content: bytes, kind: str) -> Any:
    """What a file holds, or ``None`` where it is refused; anything else that is raised is an error here."""
    path.write_bytes(content)
    examples[kind] += 1
    try:
        return read_data_file(path)
    except UsageError:
        return None


@settings(max_examples=300, deadline=None)
@given(
    content=st.binary()
    | st.text(st.sampled_from('[]{}",:0123456789.eE-+nulltrueNaIify \n\r\t#;\\')).map(str.encode)
)
def test_arbitrary_bytes(content, tmp_path_factory) -> None:
    read_or_refused(tmp_path_factory.getbasetemp() / "fuzz", content, "bytes")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(value=VALUES, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_arbitrary_json(value, encoding, tmp_path_factory) -> None:
    content = json.dumps(value).encode(encoding)
    read = read_or_refused(tmp_path_factory.getbasetemp() / "fuzz", content, "values")
    assert json.dumps(read) == json.dumps(value)


ARRAYS = hnp.arrays(
    hnp.scalar_dtypes() | hnp.array_dtypes(hnp.scalar_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@settings(max_examples=150, deadline=None)
@given(array=ARRAYS, packed=st.booleans(), data=st.data())
def test_arbitrary_damage_of_arrays(array, packed, data, tmp_path_factory) -> None:
    content = bytearray(npz(a=array, b=array) if packed else npy(array))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.none() | st.integers(0, len(content)))]
    read_or_refused(tmp_path_factory.getbasetemp() / "fuzz", bytes(content), "damaged")


PIECES = [
    "{",
    "}",
    "(",
    ")",
    "'descr'",
    "'shape'",
    "'fortran_order'",
    ":",
    ",",
    "True",
    "'<f8'",
    "'|O'",
    "10",
    "-1",
]
PIECES += [
    "L",
    "\n",
    " ",
    "#",
    "'",
    '"""',
    "\\",
    "1e400",
    "0x",
    "[('a','<f8')]",
    "lambda:0",
    "1if 1else 2",
    "\t",
]


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=30), version=st.integers(0, 4))
def test_arbitrary_headers(pieces, version, tmp_path_factory) -> None:
    whole = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"
    for header in ("".join(pieces), whole[:-2] + "".join(pieces) + "}"):
        content = with_header(header, b"\0" * 64, version)
        read_or_refused(tmp_path_factory.getbasetemp() / "fuzz", content, "headers")


def test_the_examples_that_were_run() -> None:
    print(
        ", ".join(f"{kind}: {count} files" for kind, count in examples.items()),
        "read or refused, 0 exceptions",
    )


def test_which_files_are_constructions(tmp_path) -> None:
    for name in ("h.json", "H.JSON", "h.NPZ", "h.csv", "h.json.gz", "h.h5ad.GZ", "a.out"):
        assert is_construction(tmp_path / name), name
    for content in (npy([1.0]), npz(a=1), gzip.compress(npy([1.0])), b"\x89HDF\r\n\x1a\n"):
        (tmp_path / "best.bin").write_bytes(content)
        assert is_construction(tmp_path / "best.bin")
    for content in (b"import numpy\n", b"", gzip.compress(b"import numpy\n"), b"\x1f\x8b"):
        (tmp_path / "best.py").write_bytes(content)
        assert not is_construction(tmp_path / "best.py")
    with pytest.raises(UsageError, match=r"none\.py: cannot be read: No such file"):
        is_construction(tmp_path / "none.py")


def test_programs_are_read_whatever_packed_or_saved_them(tmp_path) -> None:
    program = "# naïve – grid\ndef run():\n\treturn 1\n"
    for content in (
        program.encode("utf-8-sig"),
        program.replace("\n", "\r\n").encode("utf-16"),
        program.encode(),
    ):
        for packed in (content, gzip.compress(content)):
            (tmp_path / "p.py").write_bytes(packed)
            assert read_text_file(tmp_path / "p.py") == program


def test_programs_may_name_their_encoding_as_python_lets_them(tmp_path) -> None:
    program = "#!/usr/bin/env python\n# -*- coding: latin-1 -*-\nname = 'naïve'\n"
    (tmp_path / "p.py").write_bytes(program.replace("\n", "\r\n").encode("latin-1"))
    assert read_program(tmp_path / "p.py") == program
    for name in (b"utf-8", b"ascii", b"rot13", b"zlib", b"no-such"):
        (tmp_path / "p.py").write_bytes(b"# coding: " + name + b"\nname = '\xff'\n")
        with pytest.raises(UsageError, match=r"p\.py: not a text file: not UTF-8 text: byte"):
            read_program(tmp_path / "p.py")
