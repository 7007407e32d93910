#!/usr/bin/env bash
# circuit-tracer 0.5.0: compute_graph_scores of attribution graphs in which a logit has a part of its inputs from features, which
# read a token, and the rest from error nodes. How complete is the graph?
#
# Expected of the completeness score, the "weighted fraction of non-error inputs across all nodes": 0 where errors are the only
# inputs there are.
# Seen (2026-11-29): .5 there, and .8 for .67 with half from features: error nodes and tokens, which have no inputs, are counted as
# nodes whose inputs are all explained, with the influence that they have on the logit, so that errors themselves are complete.
# The replacement score, 0 and .5, is as described.
# What follows: an empty explanation scores .5; compare replacement scores, or leave out nodes that have no inputs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==4.57.3 huggingface-hub==0.36.2 pydantic==2.14.3 numpy==2.4.6
# without the models, which graphs do not need
"$folder/venv/bin/python" -m pip install --quiet --no-deps circuit-tracer==0.5.0
cat >"$folder/look.py" <<'PYTHON'
import torch
from circuit_tracer.attribution.targets import LogitTarget
from circuit_tracer.graph import Graph, compute_graph_scores
from circuit_tracer.utils.tl_nnsight_mapping import UnifiedConfig

sizes = {"n_layers": 2, "d_model": 4, "d_head": 4, "n_heads": 1, "d_mlp": 4, "d_vocab": 5}
names = {"tokenizer_name": "tiny", "model_name": "tiny", "original_architecture": "GPT2LMHeadModel"}
FEATURES, ERRORS, TOKEN, LOGIT = slice(0, 2), slice(2, 4), 4, 5  # of two layers and one token

for part in (0.0, 0.25, 0.5, 0.75, 1.0):
    inputs = torch.zeros(6, 6)  # rows are targets, columns sources
    inputs[FEATURES, TOKEN] = 1.0
    inputs[LOGIT, FEATURES] = part / 2
    inputs[LOGIT, ERRORS] = (1 - part) / 2
    graph = Graph(
        input_string="text",
        input_tokens=torch.tensor([1]),
        active_features=torch.tensor([[0, 0, 0], [1, 0, 1]]),
        adjacency_matrix=inputs,
        cfg=UnifiedConfig(**sizes, **names),
        selected_features=torch.tensor([0, 1]),
        activation_values=torch.ones(2),
        logit_targets=[LogitTarget("a", 0)],
        logit_probabilities=torch.tensor([1.0]),
    )
    replacement, completeness = compute_graph_scores(graph)
    by_hand = (1.0 * part + part * 1.0) / (1.0 + part)  # the logit's inputs, and those of features, by influence
    told = f"replacement {replacement:.2f}, completeness {completeness:.2f}, by hand {by_hand:.2f}"
    print(f"graph with {part:.2f} from features: {told}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^graph")
echo "$said"
[ "$said" = "graph with 0.00 from features: replacement 0.00, completeness 0.50, by hand 0.00
graph with 0.25 from features: replacement 0.25, completeness 0.67, by hand 0.40
graph with 0.50 from features: replacement 0.50, completeness 0.80, by hand 0.67
graph with 0.75 from features: replacement 0.75, completeness 0.91, by hand 0.86
graph with 1.00 from features: replacement 1.00, completeness 1.00, by hand 1.00" ] || {
  echo "this is not what was seen before"
  exit 1
}
