#!/usr/bin/env bash
# transformers 5.23.0: a forward hook puts another tensor in place of a decoder layer's output, as activation steering does.
# Is it what output_hidden_states=True shows at that place?
#
# Expected: yes; they are documented as those at the output of each layer, and the next layer reads what the hook returned.
# Seen (2026-11-29): in Llama, GPT-2, GPT-NeoX, OPT and Gemma 2 hidden_states has the layer's own output, as if there were no
# hook, though the next layer and the logits are those of the hook's tensor: outputs are kept inside the wrapped forward,
# before hooks run. In Bloom and GPT-J, which collect their own, it is the hook's tensor.
# What follows: do not check or measure an intervention in hidden_states; record it by a hook that is registered later, or
# read the input of the next layer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet transformers==5.23.0 torch==2.13.0 numpy==2.4.6
cat >"$folder/look.py" <<'PYTHON'
import torch
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(1)
sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
wide = {"intermediate_size": 64, "max_position_embeddings": 64}
models = {
    "llama": ("model.layers", wide),
    "gpt2": ("transformer.h", {"n_positions": 64}),
    "gpt_neox": ("gpt_neox.layers", wide),
    "opt": ("model.decoder.layers", {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 64}),
    "gemma2": ("model.layers", {**wide, "head_dim": 8, "num_key_value_heads": 4}),
    "bloom": ("transformer.h", {}),
    "gptj": ("transformer.h", {"rotary_dim": 4, "n_positions": 64}),
}
tokens = torch.arange(3, 11)[None]
for kind, (path, more) in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **more)).eval()
    layers = model.get_submodule(path)
    seen = []
    with torch.no_grad():
        own = model(tokens, output_hidden_states=True).hidden_states[2]
        layers[1].register_forward_hook(
            lambda layer, args, output: (
                torch.full_like(output, 7.0) if torch.is_tensor(output) else (torch.full_like(output[0], 7.0), *output[1:])
            )
        )
        layers[2].register_forward_pre_hook(
            lambda layer, args, inputs: seen.append(args[0] if args else inputs["hidden_states"]), with_kwargs=True
        )
        told = model(tokens, output_hidden_states=True).hidden_states[2]
    assert (seen[0] == 7).all()
    print(f"{kind}: layer 2 reads the hook's tensor, hidden_states[2] is", end=" ")
    print("the hook's tensor" if (told == 7).all() else "the layer's own output" if torch.equal(told, own) else "another")
PYTHON
said=$("$folder/venv/bin/python" "$folder/look.py" 2>"$folder/warnings" | grep "reads the hook's tensor")
echo "$said"
[ "$said" = "llama: layer 2 reads the hook's tensor, hidden_states[2] is the layer's own output
gpt2: layer 2 reads the hook's tensor, hidden_states[2] is the layer's own output
gpt_neox: layer 2 reads the hook's tensor, hidden_states[2] is the layer's own output
opt: layer 2 reads the hook's tensor, hidden_states[2] is the layer's own output
gemma2: layer 2 reads the hook's tensor, hidden_states[2] is the layer's own output
bloom: layer 2 reads the hook's tensor, hidden_states[2] is the hook's tensor
gptj: layer 2 reads the hook's tensor, hidden_states[2] is the hook's tensor" ] || {
  echo "this is not what was seen before"
  exit 1
}
