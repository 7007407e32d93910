#!/usr/bin/env bash
# minicons 0.3.39: conditional_word_score_tokenized, the log-probability of each word of a stimulus after a prefix, by a byte-level
# BPE tokenizer as GPT-2's, for which " hunted" is one token and "hunted", without a blank before it, is two.
#
# Expected: each word's log-probability, the sum of its own tokens'.
# Seen (2026-11-29): the first word has the sum of its own token and that of the next word, every later word has the score of the
# next one, and the last has 0: tokens of the first word are counted without the blank that stands between the prefix and it.
# A first word that is one token either way ("the") is right. word_score_tokenized of the whole text with bos_token=True gives
# each word its own.
# What follows: surprisal at a region, as of a garden path's verb, may be another word's; score the whole text and take its words.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.13.0 transformers==5.23.0 numpy==2.4.6 pillow==13.0.0 wonderwords==3.0.1
# without what only its examples use
"$folder/venv/bin/python" -m pip install --quiet --no-deps minicons==0.3.39
cat >"$folder/look.py" <<'PYTHON'
import re

import torch
from minicons.scorer import IncrementalLMScorer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
texts = ["the man hunted the deer ran into the woods .", "while the man was there the deer ran into the woods ."]
bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bpe.decoder = decoders.ByteLevel()
letters = pre_tokenizers.ByteLevel.alphabet()
bpe.train_from_iterator(
    texts * 10, trainers.BpeTrainer(vocab_size=400, special_tokens=[END], initial_alphabet=letters, show_progress=False)
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END)
torch.manual_seed(0)
config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, initializer_range=0.5)
model = GPT2LMHeadModel(config).eval()
scorer = IncrementalLMScorer(model, tokenizer=tokenizer)


def cut(text):
    return re.findall(r"\w+|[^\w\s]", text)


def by_hand(ids, start):
    with torch.no_grad():
        log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return [float(log_probs[at - 1, ids[at]]) for at in range(start, len(ids))]  # there, each word is one token


def alike(scores, others):
    return sum(abs(score - other) < 1e-3 for score, other in zip(scores, others, strict=True))


for prefix, stimulus in (("while the man", "hunted the deer ran into the woods."), ("while", "the deer ran into the woods.")):
    before, ids = (tokenizer(text)["input_ids"] for text in (prefix, f"{prefix} {stimulus}"))
    own = by_hand(ids, len(before))
    told = [score for _, score in scorer.conditional_word_score_tokenized([prefix], [stimulus], cut)[0]]
    whole = [score for _, score in scorer.word_score_tokenized([f"{prefix} {stimulus}"], cut, bos_token=True)[0]]

    print(f"words of {stimulus!r} after {prefix!r}: {alike(told, own)} of {len(own)} have their own score")
    count = len(tokenizer(cut(stimulus)[0])["input_ids"])  # of the first word without its blank
    shifted = [sum(own[:count])] + own[count:] + [0.0] * (count - 1)
    print(f"words: {alike(told, shifted)} of {len(own)} have that of {count - 1} words on, the first the sum of {count}, the last none")
    # by hand with the token that word_score_tokenized puts at the start
    own = by_hand([tokenizer.bos_token_id, *ids], 1)
    print(f"words of the whole text: {alike(whole, own)} of {len(own)} have their own score")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^words")
echo "$said"
[ "$said" = "words of 'hunted the deer ran into the woods.' after 'while the man': 0 of 8 have their own score
words: 8 of 8 have that of 1 words on, the first the sum of 2, the last none
words of the whole text: 11 of 11 have their own score
words of 'the deer ran into the woods.' after 'while': 7 of 7 have their own score
words: 7 of 7 have that of 0 words on, the first the sum of 1, the last none
words of the whole text: 8 of 8 have their own score" ] || {
  echo "this is not what was seen before"
  exit 1
}
