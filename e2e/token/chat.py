"""Renders conversations with chat templates through the reference, transformers' own environment.

    python chat.py OUT TEMPLATES N       OUT/<template>.cases for each TEMPLATES/*.jinja, N conversations each
    python chat.py --golden TESTDATA N   the same for TESTDATA/*.jinja, as TESTDATA/<template>.cases.gz

A .cases file has a line of JSON for each conversation: the arguments of the call, and what was rendered or, where the
template or Python refused, the error. Time stands still at 2026-03-04 05:06:07.
"""

import datetime
import glob
import gzip
import json
import os
import random
import sys
import zlib

os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from transformers.utils import chat_template_utils as reference

NOW = datetime.datetime(2026, 3, 4, 5, 6, 7)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


reference.datetime = Clock

WORDS = ("the a of model token cache What is your name? please answer in Python def f(x): return x+1 "
         "1 23 4.5 1e9 $%& <b>bold</b> 'quoted' \"double\" don't it's\\n \\ {} {{x}} {%if%} {# no #} %s "
         "é ü ß İ Σ ſ 你好 世界 こんにちは 한국어 עברית العربية 🙂 👩‍👩‍👧 é \u00a0 \u2028 \u200b \ufeff \x85 \x1c \x0b \x7f \x00").split(" ")
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "[INST]", "[/INST]", "</s>", "<s>", "<think>",
           "</think>", "<think>\nthought\n</think>\n\n", "<tool_call>", "</tool_call>", "<start_of_turn>", "<end_of_turn>",
           "<｜User｜>", "<｜Assistant｜>", "<tool_response>", "</tool_response>", "<|channel|>", "<|python_tag|>", "/no_think", "/think"]
NAMES = ["get_weather", "search", "f", "add_numbers", "browser.open", "python", "wäther"]


def text(rng):
    if rng.random() < .12:
        return rng.choice(["", " ", "\n", "\n\n", "  \n x \t", "x ", " x", "\tx\n"])
    parts = rng.choices(WORDS, k=rng.choice([1, 2, 3, 8, 20]))
    if rng.random() < .25:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(SPECIAL))
    s = rng.choice([" ", " ", " ", "\n", ""]).join(parts)
    return rng.choice(["", "", "", "", " ", "\n", "\n\n"]) + s + rng.choice(["", "", "", "", " ", "\n", "\n\n", "\r\n"])


def value(rng, depth=0):
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return rng.choice([0, 1, -7, 42, 2**53 + 1, 10**25, -10**30])
    if kind == 1:
        return rng.choice([0.0, 1.0, -2.5, .1, 1e16, 1e-5, 123456789.123, 1e22, 1e300, -0.0])
    if kind == 2:
        return rng.choice([True, False, None])
    if kind in (6, 7):
        return {rng.choice(["a", "b", "city", "unit", "é", "Z", "x y"]): value(rng, depth + 1) for _ in range(rng.randrange(4))}
    if kind == 8:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return text(rng)


def schema(rng, depth=0):
    kind = rng.choice(["string", "string", "integer", "number", "boolean", "array", "object"] if depth < 2 else ["string", "integer"])
    s = {"type": kind}
    if rng.random() < .1:
        s["type"] = rng.choice([["string", "null"], ["integer", "string"]])
    if rng.random() < .6:
        s["description"] = text(rng)
    if kind == "string" and rng.random() < .3:
        s["enum"] = [rng.choice(["celsius", "fahrenheit", "é", "x"]) for _ in range(rng.randrange(1, 4))]
    if kind == "array":
        s["items"] = schema(rng, depth + 1)
    if kind == "object":
        s.update(parameters(rng, depth + 1))
    if rng.random() < .15:
        s["default"] = value(rng, 2)
    if rng.random() < .05:
        s["nullable"] = True
    return s


def parameters(rng, depth=0):
    names = rng.sample(["city", "unit", "days", "query", "options", "é"], rng.randrange(0, 4))
    p = {"type": "object", "properties": {n: schema(rng, depth) for n in names}}
    if rng.random() < .7:
        p["required"] = [n for n in names if rng.random() < .5]
    return p


def tool(rng):
    f = {"name": rng.choice(NAMES), "description": text(rng)}
    if rng.random() < .9:
        f["parameters"] = parameters(rng)
    if rng.random() < .2:
        f["return"] = {"type": "string"}
    return {"type": "function", "function": f}


def content(rng, s=None):
    s = text(rng) if s is None else s
    r = rng.random()
    if r < .85:
        return s
    if r < .97:
        return [{"type": "text", "text": s}] + [{"type": "text", "text": text(rng)} for _ in range(rng.randrange(2))]
    if r < .99:
        return [{"type": "image"}, {"type": "text", "text": s}]
    return []


def call(rng, i):
    args = {k: value(rng, 1) for k in rng.sample(["city", "unit", "days", "é", "x"], rng.randrange(4))}
    if rng.random() < .2:
        args = json.dumps(args)
    c = {"id": "call_%d" % i if rng.random() < .7 else "abcdefgh%d" % (i % 10), "type": "function",
         "function": {"name": rng.choice(NAMES), "arguments": args}}
    return c


def messages(rng):
    out = []
    for _ in range(rng.choice([0, 0, 1, 1, 1, 1, 2]) if rng.random() < .2 else rng.choice([0, 1])):
        out.append({"role": rng.choice(["system"] * 9 + ["developer"]), "content": content(rng)})
    n = 0
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        out.append({"role": "user", "content": content(rng)})
        if rng.random() < .25:
            for _ in range(rng.choice([1, 1, 2])):
                calls = [call(rng, n + i) for i in range(rng.choice([1, 1, 1, 2]))]
                n += len(calls)
                m = {"role": "assistant", "content": rng.choice([None, "", text(rng)]), "tool_calls": calls}
                if rng.random() < .2:
                    m["reasoning_content"] = text(rng)
                if rng.random() < .1:
                    del m["content"]
                out.append(m)
                for c in calls:
                    r = {"role": "tool", "content": rng.choice([text(rng), json.dumps(value(rng)), content(rng)])}
                    if rng.random() < .9:
                        r["tool_call_id"] = c["id"]
                    if rng.random() < .5:
                        r["name"] = c["function"]["name"]
                    out.append(r)
        if rng.random() < .9:
            m = {"role": "assistant", "content": content(rng)}
            if rng.random() < .2:
                m["reasoning_content"] = text(rng)
            if rng.random() < .05:
                m["thinking"] = text(rng)
            out.append(m)
    if rng.random() < .6:
        while out and out[-1]["role"] == "assistant":
            out.pop()
        if not out or out[-1]["role"] not in ("user", "tool"):
            out.append({"role": "user", "content": content(rng)})
    if rng.random() < .03:
        out.insert(rng.randrange(len(out) + 1), {"role": rng.choice(["system", "assistant", "user", "other", "ipython"]), "content": text(rng)})
    return out


def arguments(rng):
    a = {"messages": messages(rng)}
    if rng.random() < .35:
        a["tools"] = [tool(rng) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    if rng.random() < .08:
        a["documents"] = [{"title": text(rng), "text": text(rng)} for _ in range(rng.randrange(1, 3))]
    if a["messages"][-1]["role"] == "assistant":
        r = rng.random()
        if r < .4:
            a["continue_final_message"] = True
        elif r < .6:
            a["add_generation_prompt"] = True
    elif rng.random() < .85:
        a["add_generation_prompt"] = True
    if rng.random() < .3:
        a["enable_thinking"] = rng.random() < .5
    for name, choices in {
        "thinking": [True, False], "reasoning_effort": ["low", "high", "medium"], "date_string": ["26 Jul 2024"],
        "tools_in_user_message": [True, False], "builtin_tools": [["browser", "python"], ["python"]], "keep_past_thinking": [True],
        "model_identity": ["You are x."], "preserve_thinking": [True, False], "controls": [{"length": "long"}],
    }.items():
        if rng.random() < .07:
            a[name] = rng.choice(choices)
    a["bos_token"], a["eos_token"] = rng.choice([("<s>", "</s>"), ("<|begin_of_text|>", "<|eot_id|>"), ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>")])
    if rng.random() < .2:
        a["unk_token"], a["pad_token"] = "<unk>", "<pad>"
    return a


def case(template, args):
    kwargs = dict(args)
    conversation = kwargs.pop("messages")
    try:
        out, _ = reference.render_jinja_template(conversations=[json.loads(json.dumps(conversation))], chat_template=template,
                                                 **json.loads(json.dumps(kwargs)))
        return {"args": args, "output": out[0]}
    except Exception as e:
        return {"args": args, "error": "%s: %s" % (type(e).__name__, str(e)[:300])}


def main():
    golden = sys.argv[1] == "--golden"
    folder, n = sys.argv[2], int(sys.argv[3])
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        name = os.path.splitext(os.path.basename(path))[0]
        with open(path, encoding="utf-8") as f:
            template = f.read()
        rng = random.Random(zlib.crc32(name.encode()))
        lines, errors = [], 0
        for _ in range(n):
            c = case(template, arguments(rng))
            errors += "error" in c
            lines.append(json.dumps(c, ensure_ascii=False) + "\n")
        data = "".join(lines).encode()
        if golden:
            with gzip.GzipFile(os.path.join(folder, name + ".cases.gz"), "wb", mtime=0) as f:
                f.write(data)
        else:
            with open(os.path.join(sys.argv[1], name + ".cases"), "wb") as f:
                f.write(data)
        print(name, n, "conversations,", errors, "refused", flush=True)


main()
