// Package token turns prompts into the token ids of a model, exactly as its engine does, and back.
//
// A [Tokenizer] is loaded from the tokenizer.json that comes with a model. It appends ids to the caller's slice:
//
//	tok, err := token.Load(file, token.Options{})
//	ids := tok.Append(nil, []byte("What a user wrote"))
//	ids = tok.AppendSpecial(ids[:0], []byte("<|im_start|>user\nHello<|im_end|>\n"))
//
// [Tokenizer.Append] is for text of users: whatever it contains, no special token comes of it. [Tokenizer.AppendSpecial] is
// for what a chat template has rendered, in which special tokens stand by name, and [Tokenizer.AppendParts] for a text that
// has both. Package chat renders templates. [Tokenizer.AppendText] turns ids back into text, and [LoadTiktoken] reads tiktoken files.
//
// A [Cache] encodes prompts of which the beginning is known, as those of a conversation are, in the time that their last
// turn takes, and gives out ids part by part, so that blocks are hashed while the rest is encoded.
//
// # How it works
//
// Added tokens are cut out of the text first. The rest is normalised, cut into pieces by the model's pre-tokenizer, and each
// piece, from its bytes or characters on, merged pair by pair in the order that the model has learnt (byte pair encoding).
// The regular expressions of pre-tokenizers are matched by code written for each: none goes back further than the white
// space before it. Short pieces are merged by looking at all pairs, long ones by a heap. Words seen before come from a cache.
//
// # What is read
//
// Byte-level BPE, with the pre-tokenizers of GPT-2, Llama 3, Qwen 2 and later, DeepSeek V3, gpt-oss and Mistral's tekken;
// and BPE over characters with byte fallback in the manner of SentencePiece: Llama 2, Mistral, Gemma. [Load] refuses all
// else, naming the place in the file, rather than to come near it.
//
// # Guarantees
//
//   - Ids equal those of the reference, the tokenizers library of Hugging Face, for every text: Append those with
//     encode_special_tokens set, AppendSpecial those without, both without the ids that a post-processor adds
//     ([Tokenizer.Begin] and [Tokenizer.End] have them). Its versions of Unicode are followed, not Go's.
//   - Text that is not UTF-8, which the reference cannot take, is encoded as what lossy decoding makes of it.
//   - Time is O(n log n) in the text's length, whatever the text. Append allocates nothing in steady state.
//   - A Cache's ids are those of its Tokenizer. Parts are looked up by hash and compared byte by byte.
//   - Tokenizers and Caches are safe for concurrent use. Equal parts that are asked for at once are encoded once.
//   - A file, whatever is in it, is loaded or refused, without a panic.
//
// # Caveats
//
// A tokenizer holds its vocabulary and merges in memory, about twice the size of its file. Truncation and padding that a
// file asks for are left to the caller. Sequences of pairs, offsets and training are not offered. Normalizers that replace
// texts by longer ones make texts longer without a bound: files, unlike prompts, are to be trusted that far. Engines may not
// follow the file: transformers 5 builds the tokenizers of class LlamaTokenizer anew, with ids that differ where a text begins
// with a space.
package token
