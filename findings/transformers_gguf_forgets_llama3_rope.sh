#!/usr/bin/env bash
# transformers 5.23.0 with gguf 0.19.0: Llama 3.1, 3.2 and 3.3 stretch the slow rotations of their positions (rope_type
# llama3). In a GGUF file that stands as the tensor rope_freqs.weight, a divisor for each rotation, as llama.cpp's converter
# writes it. A tiny Llama of that kind is written so and read with from_pretrained(gguf_file=...). Is it the same model?
#
# Expected: yes, or a warning about what is not read.
# Seen (2026-11-29): rope_freqs.weight is left out without a word, and the config says rope_type default. All weights are
# equal, and activations are those of the same model without stretching.
# What follows: pass config=AutoConfig.from_pretrained(<the original model>) beside gguf_file, or set
# config.rope_parameters by hand; do not put activations of a GGUF of Llama 3.1 beside those of the original.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 torch==2.13.0 numpy==2.4.6 gguf==0.19.0 accelerate
cat >"$folder/look.py" <<'PYTHON'
import math
import tempfile

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
width, heads, layers, positions, base = 64, 2, 2, 64, 10000.0
stretched = {"rope_type": "llama3", "rope_theta": base, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
config = LlamaConfig(
    vocab_size=300,
    hidden_size=width,
    intermediate_size=width,
    num_hidden_layers=layers,
    num_attention_heads=heads,
    num_key_value_heads=heads,
    max_position_embeddings=8 * positions,
    rope_parameters=stretched | {"original_max_position_embeddings": positions},
    initializer_range=0.3,
)
model = LlamaForCausalLM(config).eval()

parts = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
names |= {f"model.layers.{i}.{there}": f"blk.{i}.{here}" for i in range(layers) for there, here in parts.items()}


def divisors():
    """As convert_hf_to_gguf.py of llama.cpp has them."""
    for i in range(0, width // heads, 2):
        wavelength = 2 * math.pi * base ** (i / (width // heads))
        smooth = (positions / wavelength - 1) / (4 - 1)
        slow, fast = wavelength > positions, wavelength < positions / 4
        yield 1 if fast else 8 if slow else 1 / ((1 - smooth) / 8 + smooth)


def write(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(base)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(config.vocab_size)
    tokens = ["<unk>", "<s>", "</s>", *(f"t{i}" for i in range(297))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 300)
    writer.add_token_types([2, 3, 3] + [1] * 297)
    for name, tensor in model.state_dict().items():
        x = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp keeps the two halves of a head interleaved
            x = x.reshape(heads, 2, -1, width).swapaxes(1, 2).reshape(x.shape)
        writer.add_tensor(names[name.removesuffix(".weight")] + ".weight", np.ascontiguousarray(x))
    writer.add_tensor("rope_freqs.weight", np.array(list(divisors()), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


with tempfile.TemporaryDirectory() as folder:
    write(f"{folder}/model.gguf")
    options = {"gguf_file": "model.gguf", "dtype": torch.float32}
    read = AutoModelForCausalLM.from_pretrained(folder, **options).eval()
    given = AutoModelForCausalLM.from_pretrained(folder, **options, config=config).eval()
plain = LlamaForCausalLM(
    LlamaConfig.from_dict(config.to_dict() | {"rope_parameters": {"rope_type": "default", "rope_theta": base}})
).eval()
plain.load_state_dict(model.state_dict())
same = all(torch.equal(a, b) for a, b in zip(read.state_dict().values(), model.state_dict().values(), strict=True))
print("the weights are equal:", same)
print("the config read says:", read.config.rope_parameters["rope_type"])
ids = torch.randint(3, 300, (4, 200))
with torch.no_grad():
    hidden = {
        name: one(ids, output_hidden_states=True).hidden_states[1]
        for name, one in {"model": model, "read": read, "plain": plain, "config given": given}.items()
    }


def apart(a, b):
    """Distance of the median token, in its own length."""
    distance = ((hidden[a] - hidden[b]).norm(dim=-1) / hidden[b].norm(dim=-1)).median()
    return "no" if distance < 1e-5 else "over .01 of its length" if distance > 0.01 else "other"


print("the median token after layer 0 is moved, against the model:", apart("read", "model"))
print("the median token after layer 0 is moved, against the model without stretching:", apart("read", "plain"))
print("the median token after layer 0 is moved, with the config given, against the model:", apart("config given", "model"))
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "^the ")
echo "$said"
! grep -i "rope_freqs" "$folder/warnings"
[ "$said" = "the weights are equal: True
the config read says: default
the median token after layer 0 is moved, against the model: over .01 of its length
the median token after layer 0 is moved, against the model without stretching: no
the median token after layer 0 is moved, with the config given, against the model: no" ] || {
  echo "this is not what was seen before"
  exit 1
}
