"""Load a tokeniser from the files of a folder, and from nothing else."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import transformers

from ttd_core.policy.models.files import reading
from ttd_core.policy.models.folder import check_tokenizer_files, view
from ttd_core.policy.models.quiet import quiet

#: How libraries load what lies here: nothing is fetched, and no Python code that comes with a model runs.
LOCAL: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_tokenizer(folder: pathlib.Path) -> Any:
    """The tokeniser of a folder, with its chat template.

    :raises ModelUnavailableError: when there is none, or a file of it is broken.
    """
    check_tokenizer_files(folder)
    with view(folder) as shown, reading(folder, "tokeniser", shown), quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(shown, **LOCAL)
    tokenizer.name_or_path = str(folder)
    return tokenizer
