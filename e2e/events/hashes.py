"""Computes kvcache/blockhash/testdata/vllm.json with vLLM's own block hasher: hashes.py OUTPUT (needs vLLM 0.32 and xxhash).

The rows named "untagged" have the extra keys of versions before, hashed by the same functions.
"""

import json
import os
import sys
from types import SimpleNamespace

from vllm.utils.hashing import get_hash_fn_by_name
from vllm.v1.core import kv_cache_utils as vllm

TOKENS = list(range(1, 49))
WIDTHS = [0, 23, 24, 255, 256, 65535, 65536, 4294967295]
UNTAGGED = [("sql-adapter", ("img0", 8), "tenant-a"), ("sql-adapter", ("img0", -8)), ("sql-adapter",)]


def request(lora=False, salt=False, mm=False):
    image = SimpleNamespace(identifier="img0", mm_position=SimpleNamespace(offset=8, length=24))
    return SimpleNamespace(
        lora_request=SimpleNamespace(lora_name="sql-adapter", lora_path="/adapters/sql") if lora else None,
        cache_salt="tenant-a" if salt else None, mm_features=[image] if mm else [], prompt_embeds=None,
    )


def case(name, algorithm, seed, block, tokens, of=None, extras=None):
    os.environ["PYTHONHASHSEED"] = seed
    hash_function = get_hash_fn_by_name(algorithm)
    vllm.init_none_hash(hash_function)
    digests, parent, item = [vllm.NONE_HASH.hex()], None, 0
    for i, start in enumerate(range(0, len(tokens), block)):
        if extras:
            keys = extras[i]
        else:
            keys, item = vllm.generate_block_hash_extra_keys(of or request(), start, start + block, item)
        parent = vllm.hash_block_tokens(hash_function, parent, tokens[start:start + block], keys)
        digests.append(parent.hex())
    return {"name": name, "algorithm": algorithm, "seed": seed, "block": block, "tokens": tokens, "digests": digests}


def main(output):
    cases = []
    for algorithm in ("sha256_cbor", "xxhash_cbor"):
        row = lambda name, **extra: case(name, algorithm, "vllm-none-hash", 16, TOKENS, **extra)
        cases += [
            row("plain"), row("tagged lora", of=request(lora=True)), row("tagged salt", of=request(salt=True)),
            row("tagged mm", of=request(mm=True)), row("tagged all", of=request(True, True, True)),
            row("untagged all", extras=UNTAGGED), case("widths", algorithm, "0", 4, WIDTHS),
        ]
    with open(output, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


if __name__ == "__main__":
    main(sys.argv[1])
