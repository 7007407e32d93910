"""`run_sae_evals` of sae-probes, as it is, on a SAELens folder and activation files of ours.

    python tests/sae_probes_run.py FOLDER MODEL HOOK SET

Run by the Python of an environment that has sae-probes. The last line that is printed is JSON: the package's
metrics, and the records of its training and test part.
"""

import json
import sys
from pathlib import Path

import torch
from sae_lens import SAE
from sae_probes import run_sae_evals
from sae_probes.utils_data import get_train_test_indices, get_yvals


def main(folder: Path, model: str, hook: str, name: str) -> None:
    torch.set_num_threads(1)
    results = folder / "results"
    run_sae_evals(
        sae=SAE.load_from_disk(str(folder / "saelens")),
        model_name=model,
        hook_name=hook,
        reg_type="l2",
        setting="normal",
        ks=[1, 16],
        datasets=[name],
        model_cache_path=folder,
        results_path=results,
        device="cpu",
    )
    (path,) = results.rglob("*.json")
    y = get_yvals(name)
    n_train = min(len(y) - 100, 1024)  # as generate_sae_activations_normal has it
    train, test = get_train_test_indices(y, n_train, len(y) - n_train - 1)
    parts = {"y": y.tolist(), "train": train.tolist(), "test": test.tolist()}
    print(json.dumps({"metrics": json.loads(path.read_text()), **parts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
