#!/usr/bin/env bash
# transformers 5.23.0: a chat is written out with its marks and its BOS, as apply_chat_template(tokenize=False) gives it, and
# tokenised with add_special_tokens=False and return_special_tokens_mask=True. Which tokens does the mask call special?
#
# Expected: the BOS and the marks of the turns, which are special tokens of this tokenizer (all_special_ids has them, and
# decode(skip_special_tokens=True) leaves them out).
# Seen (2026-11-29): none. The mask marks what the tokenizer put there itself, and padding; with add_special_tokens=True that is
# the second BOS alone. get_special_tokens_mask(ids, already_has_special_tokens=True) marks all.
# What follows: to leave special tokens out of activations compare ids with all_special_ids.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 tokenizers==0.23.3
cat >"$folder/look.py" <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

words = ["<bos>", "<turn>", "<end>", "<pad>", "user", "hello"]
tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<end>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=tokenizer,
    bos_token="<bos>",
    eos_token="<end>",
    pad_token="<pad>",
    additional_special_tokens=["<turn>"],
)
chat = "<bos><turn> user hello <end>"


def say(name, ids, mask):
    special = [token for token, is_special in zip(tokenizer.convert_ids_to_tokens(ids), mask, strict=True) if is_special]
    print(f"special {name}: {' '.join(special) or 'none'}")


for added in (False, True):
    encoded = tokenizer(chat, add_special_tokens=added, return_special_tokens_mask=True)
    ids = encoded["input_ids"]
    say(f"of {len(ids)} tokens by the mask", ids, encoded["special_tokens_mask"])
    say(f"of {len(ids)} tokens by all_special_ids", ids, [number in tokenizer.all_special_ids for number in ids])
    mask = tokenizer.get_special_tokens_mask(ids, already_has_special_tokens=True)
    say(f"of {len(ids)} tokens by get_special_tokens_mask", ids, mask)
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^special")
echo "$said"
[ "$said" = "special of 5 tokens by the mask: none
special of 5 tokens by all_special_ids: <bos> <turn> <end>
special of 5 tokens by get_special_tokens_mask: <bos> <turn> <end>
special of 6 tokens by the mask: <bos>
special of 6 tokens by all_special_ids: <bos> <bos> <turn> <end>
special of 6 tokens by get_special_tokens_mask: <bos> <bos> <turn> <end>" ] || {
  echo "this is not what was seen before"
  exit 1
}
