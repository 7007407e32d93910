#!/usr/bin/env bash
# inseq 0.7.1: attributions of a GPT-2 whose text is given, with the step scores "probability" and "mc_dropout_prob_avg", and then with
# "probability" alone, twice.
#
# Expected: probabilities of the model in each, as transformers gives them; and an average of probabilities for the second score.
# Seen (2026-11-29): the score turns dropout on and leaves it on: the first token's probability is the model's, all later tokens', and
# those of each later attribution, are of a noisy model and differ each time. The score itself is below 0 for some tokens: it is
# the distance from the average in standard deviations.
# What follows: call the model's eval() after each use of the score, and ask for no others beside it.
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
prompt, text = "w1 w2 w3", "w1 w2 w3 w4 w5 w6 w7 w8 w9"
ids = torch.tensor([tokenizer(text)["input_ids"]])
with torch.no_grad():
    own = model(ids).logits[0].softmax(-1)[range(2, 8), ids[0, 3:]]


def probabilities(*scores):
    output = attribution.attribute(prompt, text, step_scores=list(scores), show_progress=False)
    return output.sequence_attributions[0].step_scores


def told(values):
    right = torch.isclose(values, own, rtol=1e-3).tolist()
    return "".join("+" if one else "-" for one in right)


print(f"probabilities before: {told(probabilities('probability')['probability'])}, dropout {model.training}")
beside = probabilities("probability", "mc_dropout_prob_avg")
print(f"probabilities beside mc_dropout_prob_avg: {told(beside['probability'])}, dropout {model.training}")
print(f"probabilities, mc_dropout_prob_avg is below 0 for some: {bool((beside['mc_dropout_prob_avg'] < 0).any())}")
after = [probabilities("probability")["probability"] for _ in range(2)]
print(f"probabilities after: {told(after[0])}, equal to those of another time: {bool(torch.equal(*after))}")
model.eval()
print(f"probabilities after eval(): {told(probabilities('probability')['probability'])}")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^probabilities")
echo "$said"
[ "$said" = "probabilities before: ++++++, dropout False
probabilities beside mc_dropout_prob_avg: +-----, dropout True
probabilities, mc_dropout_prob_avg is below 0 for some: True
probabilities after: ------, equal to those of another time: False
probabilities after eval(): ++++++" ] || {
  echo "this is not what was seen before"
  exit 1
}
