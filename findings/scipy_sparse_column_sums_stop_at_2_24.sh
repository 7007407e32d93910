#!/usr/bin/env bash
# scipy 1.17.1: at how many tokens is each latent on? A sparse float32 array [tokens, latents] of ones is summed over its rows
# with dtype=np.float64; one latent is on at every one of 2^24 + 1,000 tokens.
#
# Expected: 16,778,216, as float32 stops to count at 16,777,216 and dtype is "the type of the returned array and of the
# accumulator in which the elements are summed". A dense array does as it says.
# Seen (2026-11-29): `csr_array.sum(axis=0, dtype=np.float64)` and that of `coo_array` say 16,777,216: a product with a row of
# ones is made in float32, and only what comes out is converted. That of `csc_array` is right, as is an array that is float64 or
# bool (added up as integers) beforehand.
# What follows: convert codes before columns are summed, or count with count_nonzero(axis=0).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet scipy==1.17.1 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import numpy as np
import scipy
from scipy import sparse

print("scipy", scipy.__version__)
n = 2**24 + 1000
rows, columns = np.arange(n, dtype=np.int32), np.zeros(n, np.int32)
csr = sparse.csr_array((np.ones(n, np.float32), (rows, columns)), shape=(n, 1))


def told(name, total):
    print(f"{name}: {int(np.ravel(total)[0]):,} ({np.asarray(total).dtype})")


told("csr", csr.sum(axis=0, dtype=np.float64))
told("coo", csr.tocoo().sum(axis=0, dtype=np.float64))
told("csc", csr.tocsc().sum(axis=0, dtype=np.float64))
told("dense", np.ones((n, 1), np.float32).sum(axis=0, dtype=np.float64))
told("csr made float64 before", csr.astype(np.float64).sum(axis=0))
told("csr made bool before", csr.astype(bool).sum(axis=0))
told("csr, count_nonzero", csr.count_nonzero(axis=0))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py")
echo "$said"
[ "$said" = "scipy 1.17.1
csr: 16,777,216 (float64)
coo: 16,777,216 (float64)
csc: 16,778,216 (float64)
dense: 16,778,216 (float64)
csr made float64 before: 16,778,216 (float64)
csr made bool before: 16,778,216 (int64)
csr, count_nonzero: 16,778,216 (int64)" ] || {
  echo "this is not what was seen before"
  exit 1
}
