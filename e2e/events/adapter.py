"""Makes a LoRA adapter with random weights for a model of e2e/engine/model.py: adapter.py MODEL_FOLDER FOLDER."""

import json
import os
import sys

import torch
from safetensors.torch import save_file

RANK = 8


def main(model, folder):
    with open(os.path.join(model, "config.json")) as f:
        config = json.load(f)
    hidden = config["hidden_size"]
    widths = {"q_proj": hidden, "v_proj": hidden // config["num_attention_heads"] * config["num_key_value_heads"]}
    torch.manual_seed(2)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, width in widths.items():
            at = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{at}.lora_A.weight"] = torch.randn(RANK, hidden, dtype=torch.bfloat16)
            tensors[f"{at}.lora_B.weight"] = torch.randn(width, RANK, dtype=torch.bfloat16)
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, "adapter_model.safetensors"))
    with open(os.path.join(folder, "adapter_config.json"), "w") as f:
        json.dump({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "bias": "none",
            "target_modules": list(widths),
        }, f)


if __name__ == "__main__":
    main(*sys.argv[1:])
