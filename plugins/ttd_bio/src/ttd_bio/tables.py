"""Tables of counts as text: a header, then a line a cell, whatever program wrote them.

What is sure is read; what could be read in two ways is refused, with what to change.
"""

from __future__ import annotations

import csv
import itertools
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import numpy as np
from scipy import sparse

from ttd_bio.sparse_parts import MAX_STORED
from ttd_core.errors import UsageError
from ttd_core.input_files import read_bytes
from ttd_core.text import decode_text, showable_line

#: Largest table read, in bytes, unpacked.
MAX_TABLE_BYTES = 2**30
#: Most fields of a line.
MAX_FIELDS = 2**20
#: What may part fields, in the order in which they are tried where several would do.
_SEPARATORS = ",\t;| "
_MISSING = {"", "na", "nan", "n/a", "null", "none", "-", "?"}
#: Headers of a column of names, without marks and in lower case.
_NAME_HEADERS = {
    *("", "index", "cell", "cells", "cellid", "cellname", "cellnames", "barcode", "barcodes", "cellbarcode"),
    *(
        "id",
        "ids",
        "name",
        "names",
        "gene",
        "genes",
        "geneid",
        "genename",
        "genesymbol",
        "symbol",
        "rownames",
    ),
    *("unnamed0", "x", "cellindex", "rowname", "row"),
}
#: Headers of what tables of cells often carry beside counts, in lower case.
_ANNOTATION = re.compile(
    r"(.*[._ -])?clusters?(id)?([._ -].*)?|clusters?\d+|leiden.*|louvain.*|.*batch.*|"
    r"orig\.?[_ ]?ident|n_?counts?(_.*)?|n_?features?(_.*)?|n_?genes?(_.*)?|"
    r"n_?umis?|total_?(counts|umis?|reads)(_.*)?|(percent|pct)[._ ].*|"
    r".*cell[._ ]?types?.*|(x_)?(umap|tsne|pca?)[-_ ]\d.*|"
    r".*doublet.*|.*pseudotime.*|size[._ ]?factors?|library[._ ]?size|res\.\d.*|(s|g2m)[._]score|"
    r"(sample|donor|patient|condition|label|group|grp)(s|_?ids?)?"
)
#: How the first fields of a line that are no counts are told from a header that names all columns.
_FIRST_LINES = 40


@attrs.frozen
class Table:
    """A table of text that was read as counts.

    :param matrix: CSR float64 [rows, columns].
    :param rows: names, one a row.
    :param columns: names, one a column.
    """

    matrix: Any
    rows: Sequence[str]
    columns: Sequence[str]


def read_table(path: pathlib.Path) -> Table:
    """Counts from a table: names in the first column, perhaps further columns of text, then counts.

    Fields are parted by commas, tabs, semicolons, bars or blanks, as both the header and the first line have
    them. The header names every column, or all but the first, as R writes it. Lines that begin with ``#``
    before the header, and blank lines, are skipped.

    :raises UsageError: when the file cannot be read as such, or could be in two ways; one line.
    """
    try:
        text = decode_text(read_bytes(path, MAX_TABLE_BYTES))
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    try:
        lines = list(_opening(text))
        separator = _separator(lines)
        return _Reading(separator).table(_fields(text, separator))
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{path}: {showable_line(str(error))}") from error


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def _opening(text: str) -> Iterator[str]:
    """The first lines of the table that are neither blank nor a comment, at most two."""
    found = 0
    for line in _lines(text):
        if line.strip() and not (line.startswith("#") and not found):
            if len(line) > MAX_FIELDS * 64 or any(line.count(mark) > MAX_FIELDS for mark in _SEPARATORS):
                raise ValueError(
                    f"a line of {len(line)} characters; tables of at most {MAX_FIELDS} columns are read"
                )
            yield line
            found += 1
            if found == 2:
                return


def _separator(lines: Sequence[str]) -> str:
    """What parts the fields of header and first line, as many in each but for the first column's name."""
    if len(lines) < 2:
        raise ValueError("empty: it has no header" if not lines else "empty: it has a header and no row")
    counts = {mark: [len(_split(line, mark)) for line in lines] for mark in _SEPARATORS}
    fitting = {
        mark: first for mark, (header, first) in counts.items() if first > 1 and first - header in (0, 1)
    }
    if not fitting:
        found = ", ".join(
            f"{counts[mark][0]} and {counts[mark][1]} by {name}" for mark, name in _NAMED.items()
        )
        raise ValueError(f"its header and its first line are not parted alike into fields ({found})")
    return max(fitting, key=lambda mark: fitting[mark])


_NO_HEADER = "it has no header: its first line holds numbers; put the names of the columns there"
_NAMED = {",": "commas", "\t": "tabs", ";": "semicolons"}


def _split(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=separator == " "), [])


def _fields(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The fields of each line that is not blank, with the line's number."""

    def bounded() -> Iterator[str]:
        for line in _lines(text):
            if line.count(separator) > MAX_FIELDS:
                raise ValueError(f"a line has more than {MAX_FIELDS} fields")
            yield line

    reader = csv.reader(bounded(), delimiter=separator, skipinitialspace=separator == " ")
    begun = False
    for fields in reader:
        comment = not begun and bool(fields) and fields[0].startswith("#")
        if comment or not any(field.strip() for field in fields):
            continue
        begun = True
        yield reader.line_num, fields


class _Reading:
    """One table while it is read."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._header: list[str] = []
        #: The column in which the counts begin.
        self._start = 1

    def table(self, lines: Iterator[tuple[int, list[str]]]) -> Table:
        """The whole table.

        :raises ValueError: when it cannot be read, or could be in two ways.
        """
        header = next(lines, (0, []))[1]
        opening = list(itertools.islice(lines, _FIRST_LINES))
        if not opening:
            raise ValueError("empty: it has a header and no row" if header else "empty: it has no header")
        first = opening[0][1]
        if len(header) == len(first) > 2 and not any(
            f[-1].strip() for f in [header, *(f for _, f in opening)]
        ):
            # Every line ends with a separator.
            lines = ((number, fields if fields[-1].strip() else fields[:-1]) for number, fields in lines)
            opening = [(number, fields[:-1]) for number, fields in opening]
            header, first = header[:-1], first[:-1]
        self._header = [name.strip() for name in header]
        if len(header) == len(first) - 1:
            # R's write.table leaves out the name of the first column.
            self._header.insert(0, "")
        if len(self._header) != len(first):
            raise ValueError(f"its header has {len(header)} fields and line {opening[0][0]} has {len(first)}")
        if len(first) < 2:
            raise ValueError("it has one column: names or counts, not both")
        self._check_first_column([fields[0].strip() for _, fields in opening])
        numeric = (place for place, text in enumerate(first) if place and _is_number(text))
        self._start = next(numeric, len(first))
        if self._start == len(first):
            raise self._no_number(first[1], 1, opening[0][0])
        columns = self._header[self._start :]
        self._check_columns(columns)
        names, rows, stored = [], [], 0
        for number, fields in (line for part in (opening, lines) for line in part):
            if len(fields) != len(first):
                raise ValueError(f"line {number} has {len(fields)} fields, not {len(first)}")
            self._check_skipped(fields, number)
            names.append(fields[0].strip())
            rows.append(self._row(fields, number))
            stored += rows[-1].nnz
            if stored > MAX_STORED:
                raise ValueError(f"more than the {MAX_STORED} entries that are read")
        return Table(sparse.vstack(rows, format="csr"), names, columns)

    def _check_first_column(self, names: Sequence[str]) -> None:
        """Refuse a table whose first column may hold counts."""
        label = self._header[0]
        if re.sub(r"[^a-z0-9]", "", label.lower()) in _NAME_HEADERS or not all(map(_is_number, names)):
            return
        if all(map(_is_number, self._header)) and not _numbered(self._header[1:]):
            raise ValueError(_NO_HEADER)
        if _numbered(names) and len(names) > 1:
            return
        raise ValueError(
            f"it is not clear whether the first column ('{label}') holds counts or names, as its fields are "
            "numbers: leave its header empty if they are names, else put a column of names before it"
        )

    def _check_columns(self, columns: Sequence[str]) -> None:
        """Refuse a header of numbers, and columns that are known to hold no counts."""
        if all(map(_is_number, columns)) and not _numbered(columns):
            raise ValueError(_NO_HEADER)
        odd = [name for name in columns if _is_annotation(name)]
        if odd:
            named = ", ".join(f"'{name}'" for name in odd[:4])
            raise ValueError(
                f"{'columns' if len(odd) > 1 else 'column'} {named} would be read as counts of a gene: take "
                "out what is no gene"
            )

    def _check_skipped(self, fields: Sequence[str], number: int) -> None:
        """Refuse numbers in a column that was taken for text, as the first line has none there."""
        for place in range(1, self._start):
            if _is_number(fields[place]) and not _is_annotation(self._header[place]):
                label = showable_line(self._header[place])[:60]
                raise ValueError(
                    f"column {place + 1} ('{label}') holds text in the first line and a number in line "
                    f"{number}: write 0 where a count is missing, or take the column out"
                )

    def _row(self, fields: Sequence[str], number: int) -> Any:
        texts = fields[self._start :]
        try:
            return sparse.csr_matrix(np.array(texts, np.float64)[None])
        except ValueError:
            place, text = next(
                (place, text) for place, text in enumerate(fields[self._start :]) if not _is_number(text)
            )
            raise self._no_number(text, self._start + place, number) from None

    def _no_number(self, text: str, place: int, number: int) -> ValueError:
        where = f"line {number}, column {place + 1} ('{showable_line(self._header[place])[:60]}')"
        text = showable_line(text)[:60]
        if text.lower() in _MISSING:
            return ValueError(f"{where}: a value is missing ('{text}'); a count of none is 0")
        if re.fullmatch(r"-?\d+,\d+", text):
            return ValueError(f"{where}: '{text}' has a decimal comma; write a point, or whole numbers")
        return ValueError(f"{where}: '{text}' is no number; counts stand from column {self._start + 1} on")


def _is_annotation(name: str) -> bool:
    return bool(_ANNOTATION.fullmatch(name.lower()[:80]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbered(names: Sequence[str]) -> bool:
    """Whether the names are 0, 1, 2, ... or 1, 2, 3, ..., as programs write where there are none."""
    first = names[0] if names else ""
    return first in ("0", "1") and all(name == str(place + int(first)) for place, name in enumerate(names))
