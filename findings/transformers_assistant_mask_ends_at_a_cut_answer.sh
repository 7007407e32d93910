#!/usr/bin/env bash
# transformers 5.23.0: which tokens of a conversation did the assistant say? `apply_chat_template` with
# return_assistant_tokens_mask=True marks them, by the template's {% generation %}. A conversation of two answers is cut at its
# beginning, as the last turns are what matters (truncation_side="left"), so that half of the first answer is lost.
#
# Expected: the second answer, which is whole, is marked; of the first what is left of it.
# Seen (2026-11-29): nothing is marked. The loop over answers ends at the first one whose first character is in no token, which is
# right only where the end is cut off. For the same reason an answer that begins with a blank which the tokenizer drops (of words,
# as BERT's) takes all later answers with it, without any truncation. Nothing warns.
# What follows: cut conversations before they are tokenised, strip answers, and look for conversations without a marked token
# before training on the mask.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %} {% endfor %}"
)
words = "[UNK] user assistant who is there a grey cat and where in the house".split()
core = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
core.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", chat_template=TEMPLATE)


def marked(first, side, length):
    tokenizer.truncation_side = side
    said = ["who is there", first, "and where", "in the house"]
    chat = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, said)]
    found = tokenizer.apply_chat_template(
        chat, return_dict=True, return_assistant_tokens_mask=True, truncation=True, max_length=length
    )
    ids, mask = found["input_ids"], found["assistant_masks"]
    told = " ".join(tokenizer.convert_ids_to_tokens([i for i, of_it in zip(ids, mask) if of_it]))
    return f"{' '.join(tokenizer.convert_ids_to_tokens(ids))} | {told}"


print("whole:", marked("a grey cat", "left", 100))
print("end cut off:", marked("a grey cat", "right", 13))
print("beginning cut off, first answer whole:", marked("a grey cat", "left", 11))
print("beginning cut off within it:", marked("a grey cat", "left", 9))
print("an answer behind a blank:", marked(" a grey cat", "right", 100))
PYTHON
"$folder/venv/bin/python" -c 'import transformers; print("transformers", transformers.__version__)' 2>/dev/null
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings")
echo "$said"
[ "$said" = "whole: user who is there assistant a grey cat user and where assistant in the house | a grey cat in the house
end cut off: user who is there assistant a grey cat user and where assistant in | a grey cat in
beginning cut off, first answer whole: assistant a grey cat user and where assistant in the house | a grey cat in the house
beginning cut off within it: grey cat user and where assistant in the house | 
an answer behind a blank: user who is there assistant a grey cat user and where assistant in the house | " ] || {
  echo "this is not what was seen before"
  exit 1
}
