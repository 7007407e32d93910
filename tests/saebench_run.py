"""SAEBench's core and sparse probing, as they are, on a tiny random language model and made-up texts.

    python tests/saebench_run.py FOLDER_OF_RUNS OUTPUT

Run by the Python of an environment that has sae-bench. Every run in the folder is evaluated; the last line
that is printed is JSON. Only what SAEBench would download is replaced: the model and the labelled data set.
"""

import json
import os
import random
import sys
from pathlib import Path

import torch

WIDTH, LAYER, CLASSES = (
    32,
    2,
    ("stars and comets", "onions and butter", "judges and clauses", "goals and referees"),
)


def texts(n: int, seed: int) -> list[dict[str, object]]:
    """Records with a text of four classes and its label, as ag_news has them."""
    draw = random.Random(seed)
    records = []
    for i in range(n):
        words = CLASSES[i % 4].split()
        text = " ".join(draw.choice([*words, "the", "of", "a"]) for _ in range(40))
        records.append({"text": text, "label": i % 4})
    return records


def language_model(dtype: torch.dtype) -> object:
    """A random transformer of the width and depth of the runs, with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for name in CLASSES for word in name.split()} | {"the", "of", "a"})
    vocabulary = {word: i for i, word in enumerate(["<bos>", "<eos>", "<pad>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, name_or_path="tiny", add_bos_token=True, **special
    )
    torch.manual_seed(0)
    shape = {"n_layers": 4, "d_model": WIDTH, "d_head": 8, "n_heads": 4, "n_ctx": 128, "act_fn": "gelu"}
    config = HookedTransformerConfig(**shape, d_vocab=len(vocabulary), init_weights=True, dtype=dtype)
    model = HookedTransformer(config, tokenizer=fast)
    torch.nn.init.normal_(model.embed.W_E)
    return model


def main(runs: Path, output: Path) -> None:
    # SAEBench's shape annotations contradict each other under today's jaxtyping
    os.environ["JAXTYPING_DISABLE"] = "1"
    import sae_bench.evals.core.main as core
    import sae_bench.evals.sparse_probing.main as sparse_probing
    from sae_bench.sae_bench_utils import dataset_utils
    from transformer_lens import HookedTransformer

    from dictionary_learning.exchange.saebench import SAEBenchSAE

    def tiny(name: str, dtype: torch.dtype = torch.float32, **_: object) -> object:
        return language_model(dtype)

    HookedTransformer.from_pretrained_no_processing = staticmethod(tiny)
    labelled = {"train": texts(800, 0), "test": texts(400, 1)}
    dataset_utils.load_dataset = lambda *_, **__: labelled
    corpus = output / "corpus"
    corpus.mkdir(parents=True)
    (corpus / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in texts(400, 2)))

    folders = sorted(path for path in runs.iterdir() if path.is_dir())
    selected = [(folder.name, SAEBenchSAE.load(folder, model_name="tiny")) for folder in folders]
    core.multiple_evals(
        selected_saes=selected,
        n_eval_reconstruction_batches=2,
        n_eval_sparsity_variance_batches=4,
        eval_batch_size_prompts=4,
        compute_featurewise_density_statistics=True,
        compute_featurewise_weight_based_metrics=True,
        exclude_special_tokens_from_reconstruction=True,
        dataset=str(corpus),
        context_size=48,
        output_folder=str(output / "core"),
        dtype="float32",
        device="cpu",
    )
    config = sparse_probing.SparseProbingEvalConfig(
        model_name="tiny",
        dataset_names=["fancyzhx/ag_news"],
        probe_train_set_size=200,
        probe_test_set_size=80,
        context_length=48,
        llm_batch_size=16,
        llm_dtype="float32",
    )
    sparse_probing.run_eval(
        config, selected, "cpu", str(output / "sparse_probing"), artifacts_path=str(output / "artifacts")
    )
    print(json.dumps({path.name: _figures(output, path.name) for path in folders}))


def _figures(output: Path, name: str) -> dict[str, float]:
    results = {
        kind: json.loads((output / kind / f"{name}_custom_sae_eval_results.json").read_text())[
            "eval_result_metrics"
        ]
        for kind in ("core", "sparse_probing")
    }
    probing = results["sparse_probing"]
    return {
        "l0": results["core"]["sparsity"]["l0"],
        "explained_variance": results["core"]["reconstruction_quality"]["explained_variance"],
        "ce_loss_score": results["core"]["model_performance_preservation"]["ce_loss_score"],
        "probe_of_the_sae": probing["sae"]["sae_test_accuracy"],
        "probe_of_the_model": probing["llm"]["llm_test_accuracy"],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
