"""Text to train on and to compare with, made of what every Python comes with and of chance with a fixed seed."""

import glob
import json
import os
import random
import sysconfig

POINTS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
COMMON = [chr(c) for c in range(0x4E00, 0x4E00 + 2500)]


def files(pattern, encoding="utf-8"):
    root = sysconfig.get_paths()["stdlib"]
    for path in sorted(glob.glob(os.path.join(root, pattern), recursive=True)):
        try:
            with open(path, encoding=encoding) as f:
                yield f.read()
        except (UnicodeDecodeError, OSError):
            pass


def code():
    return [t for t in files("*.py") if len(t) > 500] + [t for t in files("[a-s]*/*.py") if len(t) > 500]


def prose():
    """Documentation strings and comments."""
    from pydoc_data import topics
    docs = list(topics.topics.values())
    for text in code():
        docs += [part for part in text.split('"""')[1::2] if len(part) > 200]
    return docs


def cjk(rng, n):
    """Sentences of words that follow Zipf's law, of ideographs mostly."""
    words = ["".join(rng.choices(COMMON, k=rng.choice([1, 2, 2, 2, 3, 4]))) for _ in range(6000)]
    words += ["".join(chr(rng.randrange(0x3042, 0x3094)) for _ in range(rng.choice([1, 2, 3, 4]))) for _ in range(400)]
    words += ["".join(chr(rng.randrange(0xAC00, 0xAC00 + 900)) for _ in range(rng.choice([1, 2, 3]))) for _ in range(400)]
    rng.shuffle(words)
    weights = [1 / (i + 10) for i in range(len(words))]
    out, size = [], 0
    while size < n:
        sentence = "".join(rng.choices(words, weights, k=rng.randrange(3, 15))) + rng.choice("，。、！？。\n ")
        out.append(sentence)
        size += len(sentence)
    return "".join(out)


def jsons(rng, n):
    out, size = [], 0
    names = ["id", "name", "created_at", "usage", "prompt_tokens", "choices", "message", "role", "content", "index", "tags"]
    while size < n:
        value = {rng.choice(names): rng.choice([rng.random(), rng.randrange(10**9), "user", "the quick brown fox", None,
                                                True, [rng.randrange(100) for _ in range(5)], {"x": "\u00e9\u4e2d"}])
                 for _ in range(8)}
        text = json.dumps(value, indent=rng.choice([None, 2]), ensure_ascii=rng.random() < .5)
        out.append(text)
        size += len(text)
    return "\n".join(out)


ASIDE = ["'s", "'S", "'re", "'VE", "'ll", "'lL", "'d", "'\u017f", "'\u017ft", "' ", "\r\n", "\n", "\t", "  ", "   ", " \n", "\u00a0", "\u2003", "\u3000",
         "\u0085", "\u200b", "\ufeff", "/", "//\n", "...", "—", "1", "12", "1234567", "\u0663\u0664\u0665", "½", "Ⅷ", "é", "e\u0301",
         "\u0301", "\u0323\u0307", "\u0307\u0323", "ﬁ", "Å", "\u1100\u1161\u11a8", "가", "ǅ", "ʰ", "ª", "中", "ひ", "カ", "ー", "👩‍👩‍👧‍👦", "🇩🇪", "👍🏽",
         "Ab", "ABC", "aB", "word", "Word", "words", "<mask>", " <mask> ", "<sep>", "<sep>  x", "<|im_start|>", "<|im_start|>x",
         "<|im_end|>", "<|im_end", "<s>", "</s>", "<think>", "<tool call>", "é!", "e\u0301!", "<｜User｜>", "<｜begin▁of▁sentence｜>",
         "<0x41>", "<unk>", "▁", "▁▁", "\0", "\x07", "\x7f", "\uffff", "\U000e0001", "\U0010ffff", "हिन्दी", "ไทย", "עברית", "العربية", "ᏣᎳᎩ", "𝒳", "𝟙𝟚𝟛𝟜"]


def mixture(rng, n):
    """Short parts of all sorts, put together without sense."""
    out = []
    for _ in range(n):
        k = rng.random()
        if k < .5:
            out.append(rng.choice(ASIDE))
        elif k < .6:
            out.append(rng.choice(POINTS))
        elif k < .7:
            start = rng.randrange(0x300, 0x3000)
            out.append("".join(chr(start + rng.randrange(60)) for _ in range(5)))
        elif k < .75:
            out.append(rng.choice(ASIDE) * rng.randrange(2, 12))
        elif k < .85:
            out.append("".join(rng.choice("abcdeABCXYZ ") for _ in range(6)))
        else:
            out.append(rng.choice([" ", "the", " and", "self", "=", "(", ");", "0x", "don't", "I'LL"]))
    return "".join(out)


def broken(rng):
    """Bytes that are not UTF-8, in part."""
    data = bytearray(mixture(rng, 30).encode())
    for _ in range(rng.randrange(1, 8)):
        i = rng.randrange(len(data))
        if rng.random() < .5:
            data[i] = rng.randrange(256)
        else:
            del data[i]
    return bytes(data)


def cases(rng, scale):
    """Yields texts, each in bytes: at scale 1 about fifteen million characters, every code point among them."""
    for text in code()[: int(60 * scale) + 1]:
        yield text[:20000].encode()
    for text in prose()[: int(450 * scale) + 1]:
        yield text[:5000].encode()
    for _ in range(int(45 * scale) + 1):
        yield cjk(rng, 5000).encode()
        yield jsons(rng, 5000).encode()
    # Every code point, alone in its surroundings: next to a letter, a space and a mark.
    step = 100
    for i in range(0, len(POINTS), step if scale >= 1 else step * 97):
        part = POINTS[i:i + step]
        yield "".join(part).encode()
        yield "".join(f"{c}a {c} 1{c}\u0301{c}\n" for c in part).encode()
    for _ in range(int(6000 * scale) + 60):
        yield mixture(rng, rng.choice([1, 2, 3, 10, 60])).encode()
    for _ in range(int(1200 * scale) + 20):
        yield broken(rng)
    n = int(6000 * scale) + 50
    for part in "a", "ab", " ", "\n", " \n", "1", "'", "中", "é", "\u0301", "\u0323\u0301", "👍🏽", "<|im_start|>", "<", "A", "Aa", "!", "\0", "▁":
        yield (part * n).encode()
        yield ("x" + part * n + "y").encode()
