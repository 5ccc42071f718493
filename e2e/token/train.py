"""Trains a tokenizer for each family with the reference library and writes what it makes of texts.

    python train.py OUT [SCALE] [FAMILY ...]     OUT/<family>.json and OUT/<family>.cases, and texts for benchmarks
    python train.py --golden TESTDATA            the same, small and compressed

A .cases file is a sequence of records: a byte that is 1 when special tokens are meant, the text, its ids and the text of
these ids, each with its length in front. Numbers are of 32 bits, little endian.
"""

import array
import gzip
import os
import random
import struct
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import corpus
import families


def write(t, texts, out):
    chars = 0
    for start in range(0, len(texts), 500):
        part = texts[start:start + 500]
        decoded = [text.decode("utf-8", "replace") for text in part]
        for special in (0, 1):
            t.encode_special_tokens = not special
            for text, string, e in zip(part, decoded, t.encode_batch_fast(decoded, add_special_tokens=False)):
                if special and "<" not in string:
                    continue
                ids = e.ids
                back = t.decode(ids, skip_special_tokens=False).encode()
                out.write(struct.pack("<BI", special, len(text)) + text)
                out.write(struct.pack("<I", len(ids)) + array.array("I", ids).tobytes())
                out.write(struct.pack("<I", len(back)) + back)
                chars += len(string)
    return chars


def training(rng, size):
    texts = corpus.code() + corpus.prose()
    rng.shuffle(texts)
    out, n = [], 0
    for text in texts:
        if n > size:
            break
        out.append(text[:20000])
        n += len(text)
    out += [corpus.cjk(rng, 5000) for _ in range(size // 10000)]
    out += [corpus.jsons(rng, 5000) for _ in range(size // 50000)]
    out += [corpus.mixture(rng, 100) for _ in range(size // 50000)]
    return out


def main():
    if sys.argv[1] == "--golden":
        texts = training(random.Random(1), 300_000)
        for name in families.FAMILIES:
            t = families.train(name, texts, 500)
            with gzip.GzipFile(f"{sys.argv[2]}/{name}.json.gz", "wb", mtime=0) as f:
                f.write(t.to_str().encode())
            rng = random.Random(2)
            some = [corpus.mixture(rng, 40).encode() for _ in range(10)] + [corpus.broken(rng)[:200] for _ in range(5)]
            some += [t[:300] for t in (corpus.code()[3].encode(), corpus.prose()[5].encode())]
            some += [corpus.cjk(rng, 60).encode(), corpus.jsons(rng, 200).encode(), b"a" * 100, "中".encode() * 50, b""]
            with gzip.GzipFile(f"{sys.argv[2]}/{name}.cases.gz", "wb", mtime=0) as f:
                write(t, some, f)
        return
    out, scale = sys.argv[1], float((sys.argv[2:] or ["1"])[0])
    os.makedirs(out, exist_ok=True)
    rng = random.Random(1)
    texts = training(rng, 4_000_000)
    for name, text in (("prose", "\n".join(corpus.prose())), ("code", "\n".join(corpus.code()[5:60])),
                       ("cjk", corpus.cjk(rng, 400_000)), ("json", corpus.jsons(rng, 1_000_000))):
        with open(f"{out}/{name}.txt", "w", encoding="utf-8") as f:
            f.write(text[:1_000_000])
    for name in sys.argv[3:] or families.FAMILIES:
        t = families.train(name, texts, 20000)
        t.save(f"{out}/{name}.json", pretty=False)
        t = t.from_file(f"{out}/{name}.json")
        with open(f"{out}/{name}.cases", "wb") as f:
            chars = write(t, list(corpus.cases(random.Random(3), scale)), f)
        print(f"{name}: {chars} characters", flush=True)


if __name__ == "__main__":
    main()
