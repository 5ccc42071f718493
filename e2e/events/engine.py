"""Runs vLLM with KV events on: engine.py MODEL_FOLDER ADAPTER_FOLDER EVENTS_PORT REPLAY_PORT HASH_ALGORITHM

Reads one prompt a line from stdin, {"tokens": [...], "salt": "...", "adapter": true, "generate": 40}, and answers each with a
line that starts with "answer ": {"cached": tokens found in the prefix cache, "tokens": those generated}. {"reset": true} empties the cache.
"""

import json
import os
import sys

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main(model, adapter, port, replay, algorithm):
    import vllm
    from vllm.config import KVEventsConfig
    from vllm.lora.request import LoRARequest

    engine = vllm.LLM(
        model=model, dtype="bfloat16", enforce_eager=True, block_size=32, max_model_len=2048, max_num_seqs=4,
        num_gpu_blocks_override=65, prefix_caching_hash_algo=algorithm,
        enable_lora=True, max_lora_rank=8,
        kv_events_config=KVEventsConfig(
            enable_kv_cache_events=True, publisher="zmq", topic="kv@127.0.0.1:8000@m", endpoint=f"tcp://*:{port}",
            replay_endpoint=f"tcp://*:{replay}",
        ),
    )
    print("answer", json.dumps({"version": vllm.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("reset"):
            print("answer", json.dumps({"reset": engine.reset_prefix_cache()}), flush=True)
            continue
        prompt = {"prompt_token_ids": request["tokens"]}
        if request.get("salt"):
            prompt["cache_salt"] = request["salt"]
        lora = LoRARequest("sql", 1, adapter) if request.get("adapter") else None
        sampling = vllm.SamplingParams(max_tokens=request.get("generate", 40), ignore_eos=True, temperature=0)
        result = engine.generate([prompt], sampling, use_tqdm=False, lora_request=lora)[0]
        print("answer", json.dumps({"cached": result.num_cached_tokens, "tokens": list(result.outputs[0].token_ids)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
