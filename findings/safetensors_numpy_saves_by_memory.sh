#!/usr/bin/env bash
# safetensors 0.8.0: safetensors.numpy.save_file writes arrays, load_file reads them. A transposed matrix, and one in Fortran's
# order, as many routines of linear algebra return it: do they come back as they were?
#
# Expected: yes, or an error, as safetensors.torch gives for a transposed tensor; the docstring asks for contiguous arrays,
# which both are by NumPy's own flags (f_contiguous). With safetensors 0.7.0 they come back.
# Seen (2026-11-29): the shape comes back, the numbers are in the order of the memory: a transposed 3 x 4 matrix is read as
# the untransposed one's numbers in rows of 3. Nothing warns.
# What follows: np.ascontiguousarray(array) before safetensors.numpy.save_file and save; activations saved as x.T by 0.8.0
# are to be saved again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
cat >"$folder/look.py" <<'PYTHON'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

rows = np.arange(12.0).reshape(3, 4)
arrays = {
    "as it is": rows,
    "transposed": rows.T,
    "in Fortran's order": np.asfortranarray(rows),
    "transposed and copied": np.ascontiguousarray(rows.T),
}
for name, array in arrays.items():
    assert array.flags.forc
    save_file({"x": array}, f"{sys.argv[1]}/x.safetensors")
    read = load_file(f"{sys.argv[1]}/x.safetensors")["x"]
    told = "comes back" if np.array_equal(read, array) else "other numbers"
    if read.shape == array.shape and np.array_equal(read.ravel(), array.ravel(order="K")) and told != "comes back":
        told += ", in the order of the memory"
    print(f"{safetensors.__version__}, {name}: {told}")
PYTHON
said=""
for version in 0.7.0 0.8.0; do
  "$folder/venv/bin/python" -m pip install --quiet safetensors=="$version" numpy==2.4.6
  said+=$("$folder/venv/bin/python" "$folder/look.py" "$folder")$'\n'
done
echo "$said"
[ "$said" = "0.7.0, as it is: comes back
0.7.0, transposed: comes back
0.7.0, in Fortran's order: comes back
0.7.0, transposed and copied: comes back
0.8.0, as it is: comes back
0.8.0, transposed: other numbers, in the order of the memory
0.8.0, in Fortran's order: other numbers, in the order of the memory
0.8.0, transposed and copied: comes back
" ] || {
  echo "this is not what was seen before"
  exit 1
}
