"""The configurations of the families, with small vocabularies trained by the reference library."""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
QWEN2 = CL100K.replace("{1,3}", "")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|"
          r"\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
TEKKEN = O200K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", "").replace("{1,3}", "")
DEEPSEEK = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
            " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def plain():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def chain(*steps):
    return pre_tokenizers.Sequence(list(steps))


# name: (model options, normalizer, pre-tokenizer, decoder, begin token)
BYTES = {
    "gpt2": ({}, None, pre_tokenizers.ByteLevel(add_prefix_space=False), None),
    "llama3": ({"ignore_merges": True}, None, chain(split(CL100K), plain()), "<|begin_of_text|>"),
    "qwen2": ({}, normalizers.NFC(), chain(split(QWEN2), plain()), None),
    "qwen35": ({}, normalizers.NFC(), chain(split(QWEN35), plain()), None),
    "deepseek": ({}, None, chain(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK), plain()),
                 "<｜begin▁of▁sentence｜>"),
    "gptoss": ({"ignore_merges": True}, None, chain(split(O200K), plain()), None),
    "tekken": ({"ignore_merges": True}, None, chain(split(TEKKEN), plain()), "<s>"),
    # Of no family: the other steps that are understood.
    "digits": ({}, normalizers.NFKC(), chain(pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)), None),
    "prefix": ({}, normalizers.NFKD(), pre_tokenizers.ByteLevel(add_prefix_space=True), None),
    "marks": ({}, normalizers.NFD(), chain(pre_tokenizers.Digits(False), plain()), None),
}
SPM_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
CHARS = {
    "llama2": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None,
               decoders.Sequence(SPM_DECODER + [decoders.Strip(" ", 1, 0)])),
    "mistral": (None, pre_tokenizers.Metaspace("▁", "first", False),
                decoders.Sequence(SPM_DECODER + [decoders.Strip(" ", 1, 0)])),
    "gemma": (normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"),
              decoders.Sequence(SPM_DECODER)),
    "metaspace": (None, pre_tokenizers.Metaspace("▁", "always", True), decoders.Metaspace("▁", "always", True)),
}
FAMILIES = list(BYTES) + list(CHARS)

SPECIALS = ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<｜begin▁of▁sentence｜>", "<｜User｜>"]


def added():
    tokens = [AddedToken(s, special=True, normalized=False) for s in SPECIALS]
    tokens.append(AddedToken("<mask>", special=True, normalized=False, lstrip=True))
    tokens.append(AddedToken("<sep>", special=True, normalized=False, rstrip=True))
    tokens.append(AddedToken("<|im_start|>x", special=False, normalized=False))
    tokens.append(AddedToken("word", special=False, normalized=False, single_word=True))
    tokens.append(AddedToken("<think>", special=False, normalized=False))
    tokens.append(AddedToken("<tool call>", special=False, normalized=True))
    tokens.append(AddedToken("é!", special=False, normalized=True))
    return tokens


def train(name, texts, size):
    if name in BYTES:
        options, normalizer, pre, begin = BYTES[name]
        t = Tokenizer(models.BPE(**options))
        t.normalizer, t.pre_tokenizer, t.decoder = normalizer, pre, decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                      initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<unk>"])
    else:
        normalizer, pre, decoder = CHARS[name]
        t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        # A trainer sees pre-tokenised words only: cut at the marks for it, and then not.
        t.normalizer, t.decoder, begin = normalizer, decoder, "<s>"
        t.pre_tokenizer = pre_tokenizers.Metaspace("▁", "never", True)
        # The metaspace row lacks bytes, so that it meets what it cannot say.
        spelled = [] if name == "metaspace" else [f"<0x{b:02X}>" for b in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=["<unk>", *spelled],
                                      limit_alphabet=max(size // 8, 100))
    t.train_from_iterator(texts, trainer)
    if name in CHARS:
        t = finish(t, pre)
    t.add_tokens(added())
    if begin:
        t.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A </s>", special_tokens=[(begin, t.token_to_id(begin)), ("</s>", t.token_to_id("</s>"))])
    return t


def finish(t, pre):
    """Takes the trainer's own added tokens out, which real models do not have, and sets the real pre-tokenizer."""
    import json
    file = json.loads(t.to_str())
    file["added_tokens"], file["pre_tokenizer"] = [], None
    t = Tokenizer.from_str(json.dumps(file))
    if pre:
        t.pre_tokenizer = pre
    return t
