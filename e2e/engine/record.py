"""Serves a small model with vLLM, puts load on it and writes down what vLLM did: record.py OUTPUT_FOLDER [NAME...]

Each entry of RUNS gives one file NAME.json, which replay_test.go reads. RECORD_PREFIX is put before the command that
puts the load on, for machines where a measurement has to ask for quiet.
"""

import asyncio
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
PORT, EVENTS_PORT = 18100, 18101
URL = f"http://127.0.0.1:{PORT}"
BLOCK = 32  # the CPU attention of vLLM takes multiples of 32


# Workloads: each a list of sessions, a session a list of turns that follow one another.
# A turn is (at or pause in seconds, prompt tokens that are new, output tokens).

def turn(at, prompt, output):
    return {"at": at, "prompt": prompt, "output": output}


class Tokens:
    """Made-up prompt tokens; special ones are left out."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def new(self, n):
        return [self.r.randrange(300, 4096) for _ in range(n)]


def poisson(r, rate, n):
    at = 0.0
    for _ in range(n):
        at += r.expovariate(rate)
        yield at


def calibration():
    """Decodes at several batch sizes and contexts, prefills of several lengths: one thing at a time."""
    t, sessions, at = Tokens(1), [], 0.0
    for batch in (1, 2, 4, 8, 16):
        for context in (32, 512, 1500):
            for _ in range(batch):
                sessions.append([turn(at, t.new(context), 24)])
            at += 0.4 + batch * context / 2500 + batch * 0.03
    for n in (32, 64, 128, 256, 512, 1024, 2048, 3000):
        for _ in range(2):
            sessions.append([turn(at, t.new(n), 1)])
            at += 0.2 + n / 2000
    return sessions


def bursts():
    t = Tokens(2)
    return [[turn(4.0 * b, t.new(t.r.randint(40, 700)), t.r.randint(8, 60))] for b in range(4) for _ in range(14)]


def shared_prefixes():
    t = Tokens(3)
    systems = [t.new(n) for n in (96, 320, 512, 800)]
    sessions = []
    for at in poisson(t.r, 4.0, 80):
        prompt = t.r.choice(systems) + t.new(t.r.randint(10, 250))
        sessions.append([turn(at, prompt, t.r.randint(8, 48))])
    return sessions


def chats():
    t = Tokens(4)
    system = t.new(200)
    sessions = []
    for at in poisson(t.r, 1.0, 12):
        turns = [turn(at, system + t.new(t.r.randint(20, 200)), t.r.randint(10, 60))]
        for _ in range(t.r.randint(3, 6)):
            turns.append(turn(t.r.expovariate(1.0), t.new(t.r.randint(10, 150)), t.r.randint(10, 60)))
        sessions.append(turns)
    return sessions


def overload():
    t = Tokens(5)
    return [[turn(at, t.new(t.r.randint(100, 600)), t.r.randint(10, 60))] for at in poisson(t.r, 9.0, 90)]


def pressure():
    t = Tokens(6)
    return [[turn(at, t.new(t.r.randint(40, 400)), t.r.randint(150, 500))] for at in poisson(t.r, 5.0, 40)]


ROOMY = ["--num-gpu-blocks-override", "1025"]
TIGHT = ["--num-gpu-blocks-override", "130"]  # holds just one request of the greatest length
SMALL = ["--num-gpu-blocks-override", "301"]
SMALLER = ["--num-gpu-blocks-override", "151"]

# Server flags, and the workloads that run one after another on that server, the prefix cache cleared between them.
RUNS = {
    "calibration": (ROOMY, calibration),
    "bursts": (ROOMY, bursts),
    "shared": (ROOMY, shared_prefixes),
    "chats": (ROOMY, chats),
    "overload": (ROOMY, overload),
    "evictions": (SMALL, shared_prefixes),
    "evicted-chats": (SMALLER, chats),
    "pressure": (TIGHT, pressure),
}


# The client.

async def run_turn(http, name, prompt, output):
    body = {
        "model": "m", "prompt": prompt, "max_tokens": output, "ignore_eos": True, "temperature": 0,
        "stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True,
    }
    sent, times, ids, usage = time.monotonic(), [], [], None
    async with http.post(URL + "/v1/completions", json=body, headers={"X-Request-Id": name}) as response:
        response.raise_for_status()
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            now, chunk = time.monotonic(), json.loads(line[6:])
            if chunk.get("usage"):
                usage = chunk["usage"]
            for choice in chunk["choices"]:
                times += [now] * len(choice["token_ids"])
                ids += choice["token_ids"]
    return {"id": name, "sent": sent, "tokens": times, "prompt": prompt, "answer": ids, "usage": usage}


async def run_session(http, start, number, turns, results):
    history = []
    for i, t in enumerate(turns):
        if i == 0:
            await asyncio.sleep(max(0.0, start + t["at"] - time.monotonic()))
        else:
            await asyncio.sleep(t["at"])
        history += t["prompt"]
        r = await run_turn(http, f"s{number}t{i}", list(history), t["output"])
        results.append(r)
        history += r["answer"]


async def load(name):
    import aiohttp

    results = []
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=300)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=1 << 20) as http:
        await run_turn(http, "warm", Tokens(99).new(600), 4)
        await asyncio.sleep(0.2)
        async with http.post(URL + "/reset_prefix_cache") as r:
            r.raise_for_status()
        start = time.monotonic() + 0.1
        sessions = RUNS[name][1]()
        await asyncio.gather(*(run_session(http, start, i, s, results) for i, s in enumerate(sessions)))
        async with http.get(URL + "/metrics") as r:
            page = await r.text()
    return {"requests": results, "metrics": page}


# KV events.

class Events(threading.Thread):
    """Collects the KV events that vLLM publishes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.batches = []

    def run(self):
        import msgspec
        import zmq

        socket = zmq.Context().socket(zmq.SUB)
        socket.bind(f"tcp://127.0.0.1:{EVENTS_PORT}")  # vLLM connects to an address without a wildcard
        socket.setsockopt(zmq.SUBSCRIBE, b"kv")
        while True:
            _, sequence, payload = socket.recv_multipart()
            self.batches.append([int.from_bytes(sequence, "big"), msgspec.msgpack.decode(payload)])


# The server.

def answers():
    try:
        urllib.request.urlopen(URL + "/health", timeout=1)
        return True
    except OSError:
        return False


def start(flags, model, log, record):
    if answers():
        raise RuntimeError(f"something serves {URL} already")
    env = dict(
        os.environ, PYTHONPATH=str(HERE), INFERLOOM_RECORD=str(record), HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1",
        VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="0", VLLM_SERVER_DEV_MODE="1",
    )
    events = {
        "enable_kv_cache_events": True, "publisher": "zmq", "endpoint": f"tcp://127.0.0.1:{EVENTS_PORT}", "topic": "kv",
    }
    server = subprocess.Popen(
        # The package's own "vllm serve" asks for the version of a package of another name.
        ["taskset", "-c", "1", sys.executable, "-m", "vllm.entrypoints.openai.api_server",
         "--model", str(model), "--served-model-name", "m", "--host", "127.0.0.1", "--port", str(PORT),
         "--dtype", "bfloat16", "--enforce-eager", "--block-size", str(BLOCK), "--max-model-len", "4096",
         "--max-num-batched-tokens", "512", "--max-num-seqs", "16", "--enable-prompt-tokens-details",
         "--scheduler-cls", "recorder.RecordingScheduler", "--kv-events-config", json.dumps(events), "--disable-uvicorn-access-log",
         *flags],
        env=env, stdout=log, stderr=subprocess.STDOUT,
    )
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError(f"vLLM ended, see {log.name}")
        if answers():
            return server
        time.sleep(0.5)
    server.terminate()
    raise RuntimeError(f"vLLM is not ready after five minutes, see {log.name}")


# From what was seen to the file.

class Chains:
    """Gives each distinct prefix of whole blocks a small number."""

    def __init__(self):
        self.numbers = {}

    def of(self, tokens):
        chain, parent = [], 0
        for i in range(0, len(tokens) - BLOCK + 1, BLOCK):
            parent = self.numbers.setdefault((parent, tuple(tokens[i:i + BLOCK])), len(self.numbers) + 1)
            chain.append(parent)
        return chain


def events_of(batches, chains):
    """Stored and removed blocks in order, under the numbers of the chains."""
    known, out = {}, []  # known: from vLLM's hash to the number
    for _, batch in batches:
        for event in batch[1]:
            if event["type"] == "BlockStored":
                parent = above = known.get(event["parent_block_hash"], 0)
                tokens, numbers = event["token_ids"], []
                for i, h in enumerate(event["block_hashes"]):
                    above = chains.numbers.get((above, tuple(tokens[i * BLOCK:(i + 1) * BLOCK])), -1)
                    known[h] = above
                    numbers.append(above)
                out.append({"stored": numbers, "parent": parent})
            elif event["type"] == "BlockRemoved":
                out.append({"removed": [known.get(h, -1) for h in event["block_hashes"]]})
            else:
                out.append({"cleared": True})
    return out


def condense(name, flags, seen, record, batches):
    import vllm

    adds, steps, ends = {}, [], {}
    for line in record.read_text().splitlines():
        what = json.loads(line)
        if what[0] == "add":
            adds[what[2]] = what[1]
        elif what[0] == "plan":
            steps.append(what[1:])
        else:
            ends[what[2]] = what[1]
    short = lambda r: re.sub(r"^cmpl-(s\d+t\d+|warm).*$", r"\1", r)
    origin = min(r["sent"] for r in seen["requests"])
    ms = lambda t: round((t - origin) * 1000, 3)
    chains = Chains()
    added = {short(k): v for k, v in adds.items()}
    requests = []
    for r in sorted(seen["requests"], key=lambda r: added[r["id"]]):
        details = r["usage"]["prompt_tokens_details"] or {}
        requests.append({
            "id": r["id"], "sent": ms(r["sent"]), "added": ms(added[r["id"]]), "prompt": len(r["prompt"]),
            "output": len(r["answer"]), "cached": details.get("cached_tokens", 0),
            "blocks": chains.of(r["prompt"] + r["answer"]), "tokens": [ms(t) for t in r["tokens"]],
        })
    out_steps = [
        {
            "planned": ms(t), "ended": ms(ends[n]), "running": running, "waiting": waiting, "used": round(used, 5),
            "tokens": [[short(i), c, k] for i, c, k in scheduled], "preempted": [short(i) for i in preempted],
        }
        for t, n, running, waiting, used, scheduled, preempted in steps
        if n in ends and t >= origin
    ]
    # The events before the last clearing belong to the warm-up.
    events = events_of(batches, chains)
    cleared = [i for i, e in enumerate(events) if e.get("cleared")]
    events = events[cleared[-1] + 1:] if cleared else events
    blocks = int(flags[flags.index("--num-gpu-blocks-override") + 1])
    return {
        "engine": "vLLM " + vllm.__version__, "name": name, "flags": flags,
        "block_tokens": BLOCK,
        "blocks": blocks - 1,  # vLLM keeps one as the null block
        "max_running": 16, "max_batch_tokens": 512,
        "requests": requests, "steps": out_steps, "events": events,
    }


def dump(data):
    """One request, step or event a line."""
    lines = []
    for key, value in data.items():
        if isinstance(value, list) and key in ("requests", "steps", "events"):
            rows = ",\n".join("  " + json.dumps(v, separators=(",", ":")) for v in value)
            lines.append(f'"{key}": [\n{rows}\n]')
        else:
            lines.append(f'"{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(folder, names):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(os.environ.get("RECORD_WORK", tempfile.gettempdir())) / "inferloom-validity"
    work.mkdir(parents=True, exist_ok=True)
    model = work / "model"
    if not (model / "config.json").exists():
        subprocess.run([sys.executable, str(HERE / "model.py"), str(model)], check=True)
    events = Events()
    events.start()
    groups = {}
    for name in names or RUNS:
        groups.setdefault(tuple(RUNS[name][0]), []).append(name)
    for flags, members in groups.items():
        record = work / "record.jsonl"
        record.write_text("")
        with open(work / "server.log", "w") as log:
            server = start(list(flags), model, log, record)
            try:
                for name in members:
                    offset = record.stat().st_size
                    events.batches = []
                    seen = subprocess.run(
                        [*shlex.split(os.environ.get("RECORD_PREFIX", "")), sys.executable, __file__, "--load", name],
                        check=True, stdout=subprocess.PIPE, text=True, timeout=600,
                    ).stdout
                    time.sleep(1.5)
                    part = work / f"{name}.jsonl"
                    with open(record) as f:
                        f.seek(offset)
                        part.write_text(f.read())
                    seen = json.loads(seen)
                    (work / f"{name}.metrics").write_text(seen["metrics"])
                    data = condense(name, list(flags), seen, part, events.batches)
                    (folder / f"{name}.json").write_text(dump(data))
                    print(name, len(data["requests"]), "requests", len(data["steps"]), "steps", flush=True)
            finally:
                server.terminate()
                server.wait(60)


if __name__ == "__main__":
    if sys.argv[1] == "--load":
        json.dump(asyncio.run(load(sys.argv[2])), sys.stdout)
    else:
        main(sys.argv[1], sys.argv[2:])
