"""Writes kvcache/token/unicode.bin: what the reference library knows of each code point, found by asking it.

Its regular expressions, its normaliser and Rust's own character classes each follow their own version of Unicode, none of
which is Go's. Asking is exact whatever they are.

    python unicode.py ../../kvcache/token/unicode.bin
"""

import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, POINTS))

# The order is that of the constants in unicode.go.
GROUPS = [r"\p{Lu}", r"\p{Ll}", r"\p{Lt}", r"\p{Lm}", r"\p{Lo}", r"\p{M}", r"\p{N}", r"\p{P}", r"\p{S}", r"\s"]
NUMERIC, WORD, SHIFT = 1 << 4, 1 << 5, 6  # flags above the group; above them is the combining class


def matching(splitter):
    for _, (start, end) in splitter.pre_tokenize_str(TEXT):
        yield from POINTS[start:end]


def classes():
    kind = dict.fromkeys(POINTS, 0)
    for i, pattern in enumerate(GROUPS):
        for c in matching(pre_tokenizers.Split(Regex(pattern), "removed", invert=True)):
            assert kind[c] == 0, (pattern, hex(c))
            kind[c] = i + 1
    letters = set(matching(pre_tokenizers.Split(Regex(r"\p{L}"), "removed", invert=True)))
    assert letters == {c for c in POINTS if 1 <= kind[c] <= 5}
    others = set(matching(pre_tokenizers.Split(Regex(r"[^\s\p{L}\p{N}]"), "removed", invert=True)))
    assert others == {c for c in POINTS if kind[c] in (0, 6, 8, 9)}

    for piece, (start, _) in pre_tokenizers.Digits(True).pre_tokenize_str(TEXT):
        if len(piece) == 1 and piece.isnumeric() or len(piece) == 1 and kind[POINTS[start]] == 7:
            # A piece of one is a number, or stands alone between two: ask for it in company.
            if len(pre_tokenizers.Digits(True).pre_tokenize_str("a" + piece + "a")) == 3:
                kind[POINTS[start]] |= NUMERIC

    t = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    t.add_tokens([AddedToken("@", single_word=True, normalized=False)])
    for c in POINTS:
        if c != ord("@") and 1 not in t.encode(chr(c) + "@").ids:
            kind[c] |= WORD
    return kind


def combining(kind):
    """Combining classes, from which of two marks the normaliser puts first."""
    nfd = normalizers.NFD().normalize_str
    # One mark of each class, in order. 1, 9 and 230 are certain; the rest is found by insertion.
    moves = lambda a, b: nfd("a" + chr(a) + chr(b)) == "a" + nfd(chr(b)) + nfd(chr(a)) and nfd(chr(a)) != nfd(chr(b))
    low, high = 0x334, 0x345  # of class 1 and of class 240, the highest
    # Decomposing marks take the classes of their parts.
    marks = [c for c in POINTS if nfd(chr(c)) == chr(c) and (moves(high, c) or moves(c, low))] + [low, high]
    marks = sorted(set(marks))
    import functools
    before = lambda a, b: -1 if moves(b, a) else (1 if moves(a, b) else 0)
    order = sorted(marks, key=functools.cmp_to_key(before))
    rank, n = {}, 0
    for i, c in enumerate(order):
        if i == 0 or before(order[i - 1], c) != 0:
            n += 1
        rank[c] = n
    assert n < 64, n
    for c, r in rank.items():
        kind[c] |= r << SHIFT
    return rank


def main(path):
    kind = classes()
    rank = combining(kind)
    nfc, nfd, nfkd = (f().normalize_str for f in (normalizers.NFC, normalizers.NFD, normalizers.NFKD))

    ranges = []
    for c in POINTS:
        if not ranges or ranges[-1][1] != kind[c] or c == 0xE000:
            ranges.append((c, kind[c]))

    hangul = range(0xAC00, 0xD7A4)  # by arithmetic
    canonical = [(c, nfd(chr(c))) for c in POINTS if c not in hangul and nfd(chr(c)) != chr(c)]
    compatible = [(c, nfkd(chr(c))) for c in POINTS if c not in hangul and nfkd(chr(c)) != nfd(chr(c))]
    pairs = []
    for c, d in canonical:
        if len(d) > 1 and nfc(d) == chr(c):
            first = nfc(d[:-1])
            assert len(first) == 1 and nfc(first + d[-1]) == chr(c), hex(c)
            pairs.append((ord(first), ord(d[-1]), c))

    out = bytearray()

    def number(n):
        while n >= 0x80:
            out.append(n & 0x7F | 0x80)
            n >>= 7
        out.append(n)

    number(len(ranges))
    last = 0
    for start, k in ranges:
        number(start - last)
        number(k)
        last = start
    for table in canonical, compatible:
        number(len(table))
        last = 0
        for c, d in table:
            number(c - last)
            number(len(d))
            for x in d:
                number(ord(x))
            last = c
    number(len(pairs))
    for pair in pairs:
        for x in pair:
            number(x)
    with open(path, "wb") as f:
        f.write(out)
    print(f"{len(ranges)} ranges, {len(rank)} marks in {max(rank.values())} classes, {len(canonical)} canonical and "
          f"{len(compatible)} compatible decompositions, {len(pairs)} compositions, {len(out)} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
