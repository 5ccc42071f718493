"""Times the reference library on one thread, on the texts and vocabularies that train.py wrote.

    python bench.py FOLDER [FAMILY ...]
"""

import os
import sys
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

from tokenizers import Tokenizer


def main(folder, *names):
    for name in names:
        t = Tokenizer.from_file(f"{folder}/{name}.json")
        t.encode_special_tokens = True
        for kind in "prose", "code", "cjk", "json":
            with open(f"{folder}/{kind}.txt", encoding="utf-8", newline="") as f:
                text = f.read()
            # In chat-sized texts, which suit its caches best.
            parts = [text[i:i + 10_000] for i in range(0, len(text), 10_000)]
            best = min(run(t, parts) for _ in range(3))
            print(f"Reference/family={name}/text={kind} {len(text.encode()) / best / 1e6:.2f} MB/s", flush=True)


def run(t, parts):
    start = time.perf_counter()
    for part in parts:
        t.encode_batch_fast([part], add_special_tokens=False)
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1], *(sys.argv[2:] or ["gpt2", "llama3", "qwen2", "deepseek", "gptoss", "tekken", "llama2", "mistral", "gemma"]))
