"""Tiny random models of nine families."""

from typing import Any

import torch

WIDTH, N_LAYERS = 32, 3
COMMON = {
    "vocab_size": 512,
    "bos_token_id": None,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "initializer_range": 0.1,
}
MODERN = {
    **COMMON,
    "hidden_size": WIDTH,
    "intermediate_size": 64,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
GPT = {**COMMON, "n_embd": WIDTH, "n_layer": N_LAYERS, "n_head": 4, "n_positions": 128}
# family: config class, its arguments, where the layers, the final norm are
FAMILIES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "llama": ("LlamaConfig", MODERN, "model.layers", "model.norm"),
    "qwen2": ("Qwen2Config", MODERN, "model.layers", "model.norm"),
    "qwen3": ("Qwen3Config", {**MODERN, "head_dim": 8}, "model.layers", "model.norm"),
    "gemma": ("GemmaConfig", {**MODERN, "head_dim": 8}, "model.layers", "model.norm"),
    "gemma2": ("Gemma2Config", {**MODERN, "head_dim": 8, "sliding_window": 8}, "model.layers", "model.norm"),
    "gpt_neox": ("GPTNeoXConfig", MODERN, "gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "gpt2": ("GPT2Config", GPT, "transformer.h", "transformer.ln_f"),
    "gptj": ("GPTJConfig", {**GPT, "rotary_dim": 4}, "transformer.h", "transformer.ln_f"),
    "bloom": (
        "BloomConfig",
        {**COMMON, "hidden_size": WIDTH, "n_layer": 3, "n_head": 4},
        "transformer.h",
        "transformer.ln_f",
    ),
}


def tiny_model(family: str) -> Any:
    import transformers

    torch.manual_seed(0)
    config_class, arguments, _, _ = FAMILIES[family]
    config = getattr(transformers, config_class)(**arguments)
    return transformers.AutoModelForCausalLM.from_config(config).eval()
