"""`denoising`: predict held-out molecules of single cells (paper 4.4, appendix E; OpenProblems).

Denoised counts are as large as the data, 247 MB on the pancreas, and every rollout has some. So a state does
not keep them: the trusted process measures the returned array at once, and the state holds the losses, the
SHA-256 of the array in float32, which tells results apart, and two genes of it for the picture. None of these
can come from a candidate, which hands over one array and nothing else. Check and reward then judge the losses
against those of the control methods, computed from the split, and refuse losses of any other split.
"""

from __future__ import annotations

import functools
import hashlib
import math
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from ttd_bio import pictures
from ttd_bio.catalogue import CATALOGUE
from ttd_bio.fetching import load_counts
from ttd_bio.metrics import MAX_MSE, ControlLosses, Losses, control_losses, losses
from ttd_bio.results import array_of, read_h5ad_result
from ttd_bio.split import Split, split_molecules
from ttd_core.errors import UsageError
from ttd_core.input_files import read_data_file
from ttd_core.package_files import package_text
from ttd_core.problem import Baseline, Examples, Execute, Options, Problem, option
from ttd_core.sandbox.base import GIB, MIB, PythonJob
from ttd_core.types import Action, Reward, State, Status, Verdict

#: Normalised Poisson loss that a valid result has (paper, appendix E).
POISSON_RANGE = (0.97, 1.0)
_LOSS_NAMES = tuple(field.name for field in attrs.fields(Losses))
#: Rebuilds the dense counts inside the sandbox: they travel as their few non-zero entries.
_HELPERS = package_text("ttd_bio", "helpers", "denoising.py")
#: The helpers' function, which calls the candidate's.
_HELPERS_ENTRY = "call_magic_denoise"
_PUBLISHED = "published: TTT-Discover's paper, Table 7"
#: What that table's scores were measured on: data and splits that are not those of the catalogue.
_PBMC, _LUNG = "OpenProblems' PBMC", "OpenProblems' Tabula Muris Senis Lung"
#: Bytes of files a program may write: numba keeps what it compiles.
_SCRATCH = 256 * MIB


def keeps_rule(poisson: float) -> bool:
    """Whether a normalised Poisson loss is in range, to within the last bits of a division."""
    low, high = POISSON_RANGE
    return low - 1e-12 <= poisson <= high + 1e-12


@attrs.frozen
class DenoisingOptions(Options):
    """Options of ``denoising``."""

    timeout_s: float = option(400.0, "wall seconds a program may run")
    memory_mb: int = option(10 * 1024, "resident memory a program may use, MiB; the paper's is 3072")
    start: str = option(
        "program", "where the first prompts start: 'empty' or 'program' (the starting program)"
    )
    dataset: str = option("pancreas", f"counts: {', '.join(CATALOGUE)}, or a file (.h5ad, .h5, .mtx, .csv)")
    dataset_layer: str = option(
        "", "which matrix of an .h5ad file: 'X', 'raw.X' or a layer's name; empty: layer 'counts', else X"
    )
    dataset_rows: str = option(
        "auto",
        "what a row of the file is: 'cells', 'genes', or 'auto' (what the file tells)",
        validator=attrs.validators.in_(("auto", "cells", "genes")),
    )
    test_fraction: float = option(
        0.1,
        "probability of a molecule to be held out",
        validator=[attrs.validators.gt(0), attrs.validators.lt(1)],
    )
    split_seed: int = option(42, "seed of the split", validator=attrs.validators.ge(0))
    program: str = option(
        "magic",
        "the starting program: 'magic', 'knn', 'alra' or 'best' (our best method)",
        validator=attrs.validators.in_(("magic", "knn", "alra", "best")),
    )
    objective: str = option(
        "mse",
        "what the learner maximises: 'mse' (1/MSE) or 'normalised_mse'",
        validator=attrs.validators.in_(("mse", "normalised_mse")),
    )


def _our_split(name: str) -> str:
    """What scores of a data set of the catalogue are measured on, under the default options."""
    return f"{name}, our split"


@attrs.frozen(eq=False)
class ReferenceData:
    """What denoised counts are measured against.

    :param split: train and test molecules.
    :param controls: losses of the control methods on this split.
    :param digest: the split's SHA-256, kept because it is asked for at every check.
    """

    split: Split
    controls: ControlLosses
    digest: str


@functools.lru_cache(maxsize=4)
def reference_data(
    dataset: str, test_fraction: float, seed: int, layer: str = "", rows: str = "auto"
) -> ReferenceData:
    """Load and split a data set; kept in memory, since every rollout needs it.

    :param dataset: a catalogue name or a path.
    :param test_fraction: probability of a molecule to be held out.
    :param seed: of the split.
    :param layer: as :func:`~ttd_bio.fetching.load_counts` takes it.
    :param rows: as :func:`~ttd_bio.fetching.load_counts` takes it.
    :raises UsageError: when the data set is unknown, holds no raw counts, or leaves nothing to denoise.
    :raises DataUnavailableError: when it cannot be fetched.
    """
    split = split_molecules(load_counts(dataset, layer, rows), test_fraction, seed)
    controls = control_losses(split.train, split.test)
    if not controls.apart:
        raise UsageError(
            f"data set '{dataset}': its train and test counts are the same once cells are normalised, so no "
            "score can be taken between them; are several genes counted in each cell?"
        )
    return ReferenceData(split, controls, split.digest)


class Denoising(Problem):
    """Denoising of single-cell counts.

    A state's data: ``split`` (its digest), ``mse``, ``poisson``, ``poisson_textbook``, ``result`` (SHA-256 of
    the denoised counts as float32) and ``pair`` (float32 [cells, 2], normalised log1p counts of two genes).
    """

    name = "denoising"
    title = "Denoising single-cell counts"
    metric = "mean of normalised MSE and Poisson"
    direction = "max"
    entry = "magic_denoise"
    signature = "magic_denoise(X, **kwargs)"
    options_type = DenoisingOptions
    options: DenoisingOptions
    deterministic = True
    preload: ClassVar[tuple[str, ...]] = (
        *("numpy", "scipy.sparse.linalg", "sklearn.decomposition", "sklearn.neighbors"),
        *("graphtools", "scprep", "scanpy"),
    )
    # The best published score, of whatever data set: what prompts name for data that is not in the catalogue.
    default_target = 0.73
    baselines = (
        Baseline("MAGIC (approximate, reversed)", 0.64, _PUBLISHED, on=_PBMC, date="2026-01", decimals=2),
        Baseline("MAGIC (approximate, reversed)", 0.64, _PUBLISHED, on=_LUNG, date="2026-01", decimals=2),
        Baseline("TTT-Discover", 0.71, _PUBLISHED, on=_PBMC, date="2026-01", decimals=2),
        Baseline("TTT-Discover", 0.73, _PUBLISHED, on=_LUNG, date="2026-01", decimals=2),
        *(
            Baseline(
                "the best published program",
                dataset.target,
                "measured by us",
                on=_our_split(dataset.name),
                date="2026",
                decimals=4,
            )
            for dataset in CATALOGUE.values()
            if dataset.target is not None
        ),
    )

    def measured_on(self) -> str:
        """The data set and its split: ours, of a data set of the catalogue, or another."""
        options = self.options
        names = ("test_fraction", "split_seed", "dataset_layer", "dataset_rows")
        usual = attrs.fields(DenoisingOptions)
        if options.dataset not in CATALOGUE:
            return f"{pathlib.Path(options.dataset).name}, which is not in the catalogue"
        if all(getattr(options, name) == getattr(usual, name).default for name in names):
            return _our_split(options.dataset)
        return f"{options.dataset} in this split"

    @property
    def split(self) -> Split:
        """Train and test molecules of the data set; fetched when first asked for."""
        return self._reference.split

    @property
    def controls(self) -> ControlLosses:
        """The losses of the control methods, between which scores are normalised."""
        return self._reference.controls

    @property
    def _reference(self) -> ReferenceData:
        options = self.options
        return reference_data(
            options.dataset,
            options.test_fraction,
            options.split_seed,
            options.dataset_layer,
            options.dataset_rows,
        )

    @property
    def target(self) -> float | None:
        """The score to aim for.

        The ``target`` option; else, for a catalogue data set, what we measured of the best published program
        (:attr:`ttd_bio.catalogue.Dataset.target`); else the best published score, of whatever data set.
        """
        dataset = CATALOGUE.get(self.options.dataset)
        if self.options.target is not None or dataset is None:
            return super().target
        return dataset.target

    def task(self) -> str:
        """The task in words, with the figures of the data set."""
        cells, genes = self.split.shape
        dataset = CATALOGUE.get(self.options.dataset)
        statement = string.Template(package_text("ttd_bio", "prompts", "denoising.md"))
        return statement.substitute(
            title=dataset.title if dataset else pathlib.Path(self.options.dataset).name,
            fraction=f"{self.options.test_fraction:g}",
            cells=cells,
            genes=genes,
            none_mse=f"{self.controls.no_denoising.mse:.4f}",
            none_poisson=f"{self.controls.no_denoising.poisson:.4f}",
        )

    def starting_program(self) -> str:
        """The program the ``program`` option names."""
        return package_text("ttd_bio", "programs", f"{self.options.program}.py")

    def arguments(self, state: State) -> Mapping[str, Any]:
        """None beyond the counts, which :meth:`transition` adds."""
        return {}

    def transition(self, state: State, action: Action, execute: Execute) -> State | Verdict:
        """Run the program on the train counts and measure what it returns."""
        whole = self.complete(state, action)
        if isinstance(whole, Verdict):
            return whole
        train = self.split.train
        job = PythonJob(
            source=whole.code,
            entry=_HELPERS_ENTRY,
            kwargs={
                "shape": list(train.shape),
                "data": train.data,
                "indices": train.indices,
                "indptr": train.indptr,
            },
            helpers=_HELPERS,
            preload=self.preload,
            limits=self.options.limits(result=max(GIB, 8 * math.prod(train.shape) + MIB), scratch=_SCRATCH),
        )
        result = execute(job)
        if not result.ok:
            return Verdict.failed(result.status, result.message, code=whole.code, output=result.output)
        try:
            return State(code=whole.code, data=self.construct(result.value), output=result.output)
        except ValueError as error:
            return Verdict.failed(Status.INVALID, str(error), code=whole.code, output=result.output)

    def construct(self, value: Any) -> Mapping[str, Any]:
        """Measure a returned array: its losses, its SHA-256 and two of its genes.

        :raises ValueError: when it is no plain array of numbers, or breaks a rule.
        """
        if type(value) is not np.ndarray or value.dtype.kind not in "iuf":
            kind = (
                f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
            )
            raise ValueError(f"{self.entry} must return a plain array of numbers, not {kind}")
        split = self.split
        measured = losses(value, split.train, split.test)
        digest = hashlib.sha256(np.ascontiguousarray(value, "<f4").tobytes()).hexdigest()
        return {
            "split": self._reference.digest,
            **attrs.asdict(measured),
            "result": digest,
            "pair": pictures.gene_pair(value, split.train),
        }

    def read_construction(self, path: pathlib.Path) -> State:
        """Denoised counts from ``.h5ad`` (layer ``denoised``, else ``X``), ``.npy`` or ``.npz``.

        AnnData's names bring cells and genes into the data set's order; arrays must have it.

        :raises UsageError: when the file cannot be read as one.
        """
        try:
            if path.name.lower().removesuffix(".gz").endswith(".h5ad"):
                value = read_h5ad_result(path, self.split)
            else:
                value = read_data_file(path)
                if isinstance(value, dict) and any(isinstance(part, np.ndarray) for part in value.values()):
                    value = array_of(value, self.split)
            return State(data=self.construct(value))
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(f"{path}: not a result of {self.name}: {error}") from error

    def check(self, state: State) -> Sequence[str]:
        """The state holds losses of this split, and its normalised Poisson loss is in range."""
        measured = self._losses(state)
        if isinstance(measured, str):
            return [measured]
        poisson = self.controls.normalised("poisson", measured.poisson)
        if not keeps_rule(poisson):
            low, high = POISSON_RANGE
            shown = f"{poisson:.4f}" if abs(poisson) < 1e6 else f"{poisson:.4g}"
            return [f"normalised Poisson {shown} is outside [{low:g}, {high:g}]"]
        return []

    def _losses(self, state: State) -> Losses | str:
        """The state's losses, or why it holds none of this split, in one sentence."""
        data = state.data
        if set(data) != {"split", "result", "pair", *_LOSS_NAMES}:
            return "the state holds no measured result"
        # An array compared with a text gives an array.
        if not isinstance(data["split"], str) or data["split"] != self._reference.digest:
            return "the state's losses belong to another split"
        for name in _LOSS_NAMES:
            value = data[name]
            # What is no number may be large, and is not printed.
            if type(value) is not float:
                return f"{name} is a {type(value).__name__}, no loss"
            if not math.isfinite(value) or (name == "mse" and not 0 <= value <= MAX_MSE):
                return f"{name} = {value!r} is no loss"
        result = data["result"]
        if not isinstance(result, str) or len(result) != 64 or set(result) - set("0123456789abcdef"):
            return "the state's result has no SHA-256"
        violation = pictures.gene_pair_violation(data["pair"], self.split.shape[0])
        return violation or Losses(**{name: data[name] for name in _LOSS_NAMES})

    def reward(self, state: State) -> Reward:
        """OpenProblems' score; the value that the learner maximises is chosen by the ``objective`` option."""
        measured = self._losses(state)
        assert isinstance(measured, Losses)
        mse = self.controls.normalised("mse", measured.mse)
        # Perfect denoising has no finite 1/MSE.
        value = 1.0 / max(measured.mse, 1e-12) if self.options.objective == "mse" else mse
        metrics = {
            **attrs.asdict(measured),
            "normalised_mse": mse,
            "normalised_poisson": self.controls.normalised("poisson", measured.poisson),
        }
        return Reward(value=value, score=self.controls.score(measured), metrics=metrics)

    def examples(self) -> Examples:
        """Good: two smoothers. Bad: the counts themselves, and an array for each rule."""
        cells, genes = self.split.shape
        negative, large = np.zeros((2, cells, genes), np.float32)
        negative[-1, -1] = -1e-6
        large[0, 0] = 1.001 * self.split.train.sum()
        return Examples(
            good=[
                Action(package_text("ttd_bio", "programs", "magic.py")),
                Action(package_text("ttd_bio", "programs", "best.py")),
            ],
            bad=[
                Action(package_text("ttd_bio", "programs", "no_denoising.py")),
                np.zeros((genes, cells), np.float32),
                np.zeros((cells, genes - 1), np.float32),
                negative,
                large,
            ],
        )

    def plot(self, state: State) -> str | None:
        """Two genes, cell by cell: the train counts and the denoised counts."""
        if not state.data or self.check(state):
            return None
        return pictures.before_and_after(self.split, np.asarray(state.data["pair"]))
