#!/usr/bin/env bash
# rouge-score 0.1.2, which lm-eval and evaluate take ROUGE from: RougeScorer.score of a summary and the reference. What do equal
# texts score, and what do texts that have next to nothing in common, in Russian, Greek, Chinese and German?
#
# Expected: 1 for equal texts, and far less than 1 for others.
# Seen (2026-11-29): everything but a to z and 0 to 9 is white space to its tokenizer. Equal Russian, Greek and Chinese texts score
# 0; two Russian texts score 1 if they name the same year, as the year is all that is left of either; and two German
# words score 1 that differ in an umlaut. Nothing warns.
# What follows: RougeScorer(tokenizer=...) with one for the language; ROUGE of models of several languages by the default one
# measures digits and Latin names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet rouge-score==0.1.2 nltk==3.10.4 numpy==2.4.6 absl-py==2.5.1 six==1.17.0
cat >"$folder/look.py" <<'PYTHON'
from rouge_score.rouge_scorer import RougeScorer

pairs = {
    "equal, English": ("the model writes", "the model writes"),
    "equal, Russian": ("модель пишет текст", "модель пишет текст"),
    "equal, Greek": ("το μοντέλο γράφει", "το μοντέλο γράφει"),
    "equal, Chinese": ("模型写文章", "模型写文章"),
    "other, Russian, of one year": ("зима 2024 была тёплой", "в 2024 году выросли цены на хлеб"),
    "other, German": ("fällen", "füllen"),
}
scorer = RougeScorer(["rouge1", "rougeL"])
for name, (first, second) in pairs.items():
    scores = scorer.score(first, second)
    print(f"ROUGE-1 and ROUGE-L, {name}: {scores['rouge1'].fmeasure:.2f} and {scores['rougeL'].fmeasure:.2f}")
PYTHON
said=$(PYTHONIOENCODING=utf-8 "$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^ROUGE")
echo "$said"
[ "$said" = "ROUGE-1 and ROUGE-L, equal, English: 1.00 and 1.00
ROUGE-1 and ROUGE-L, equal, Russian: 0.00 and 0.00
ROUGE-1 and ROUGE-L, equal, Greek: 0.00 and 0.00
ROUGE-1 and ROUGE-L, equal, Chinese: 0.00 and 0.00
ROUGE-1 and ROUGE-L, other, Russian, of one year: 1.00 and 1.00
ROUGE-1 and ROUGE-L, other, German: 1.00 and 1.00" ] || {
  echo "this is not what was seen before"
  exit 1
}
