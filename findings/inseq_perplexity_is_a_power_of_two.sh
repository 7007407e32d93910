#!/usr/bin/env bash
# inseq 0.7.1: the step score "perplexity" of three tokens that a GPT-2 generates after each of two texts.
#
# Expected: the reciprocal of a token's probability, as it says itself: 100 where the model is as confused as by 100 words.
# Seen (2026-11-29): 5.9 for a probability of 1/13.0, 24.3 for 1/100: it is 2 to the power of the cross-entropy, which is in nats,
# so that each number is the true one to the power of .69. Probability and cross-entropy are right.
# What follows: perplexities are too small, the more so the larger they are, also those of words; take exp of "crossentropy".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 captum==0.9.0 numpy==2.4.6 matplotlib==3.11.2 \
  jaxtyping==0.3.11 rich==15.0.0 treescope==0.1.10 typeguard==4.6.1 tqdm==4.70.1
# without the libraries of CUDA 11
"$folder/venv/bin/python" -m pip install --quiet --no-deps inseq==0.7.1
cat >"$folder/look.py" <<'PYTHON'
import inseq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

names = ["<pad>", "<s>", "</s>", "<unk>"] + [f"w{number}" for number in range(96)]
words = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, unk_token="<unk>"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
)
torch.manual_seed(0)
config = GPT2Config(
    vocab_size=100, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=0
)
model = GPT2LMHeadModel(config).eval()
attribution = inseq.load_model(model, "saliency", tokenizer=tokenizer)
texts = ["w1 w2 w3", "w4 w5 w6"]
output = attribution.attribute(
    texts,
    step_scores=["probability", "crossentropy", "perplexity"],
    generation_args={"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False},
    show_progress=False,
)
for text, one in zip(texts, output.sequence_attributions, strict=True):
    scores = one.step_scores
    own = 1 / scores["probability"]

    def alike(values, others):
        return int(torch.isclose(values, others, rtol=1e-3).sum())

    print(
        f"tokens after {text!r}: perplexity is 1 / probability in {alike(scores['perplexity'], own)} of {len(own)}, "
        f"that to the power of ln 2 in {alike(scores['perplexity'], own ** torch.tensor(2.0).log())}; "
        f"exp of crossentropy is 1 / probability in {alike(scores['crossentropy'].exp(), own)}"
    )
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^tokens")
echo "$said"
[ "$said" = "tokens after 'w1 w2 w3': perplexity is 1 / probability in 0 of 3, that to the power of ln 2 in 3; exp of crossentropy is 1 / probability in 3
tokens after 'w4 w5 w6': perplexity is 1 / probability in 0 of 3, that to the power of ln 2 in 3; exp of crossentropy is 1 / probability in 3" ] || {
  echo "this is not what was seen before"
  exit 1
}
