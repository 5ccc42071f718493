package token_test

import (
	"fmt"
	"slices"

	"github.com/inferloom/inferloom/kvcache/token"
)

// file is a very small tokenizer.json.
var file = []byte(`{
	"added_tokens": [{"id": 6, "content": "<end>", "special": true}],
	"decoder": {"type": "Fuse"},
	"model": {"type": "BPE",
		"vocab": {"l": 0, "o": 1, "w": 2, "lo": 3, "low": 4, "<": 5},
		"merges": ["l o", "lo w"]}
}`)

func Example() {
	tok, err := token.Load(file, token.Options{})
	if err != nil {
		panic(err)
	}
	ids := tok.Append(nil, []byte("lowlo"))
	fmt.Println(ids, string(tok.AppendText(nil, ids, false)))
	// Output: [4 3] lowlo
}

// Only trusted text can contain special tokens.
func ExampleTokenizer_AppendSpecial() {
	tok, err := token.Load(file, token.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(tok.AppendSpecial(nil, []byte("low<end>")))
	fmt.Println(tok.Append(nil, []byte("low<"))) // "end>" has no tokens in this vocabulary
	// Output:
	// [4 6]
	// [4 5]
}

// A conversation's earlier turns are not encoded again.
func ExampleCache() {
	tok, err := token.Load(file, token.Options{})
	if err != nil {
		panic(err)
	}
	cache, err := token.NewCache(tok, token.CacheOptions{MaxBytes: 1 << 20})
	if err != nil {
		panic(err)
	}
	chat := []byte("low<end>")
	fmt.Println(cache.AppendSpecial(nil, chat))
	chat = append(chat, "lo<end>"...)
	for ids := range cache.Parts(chat) {
		fmt.Println(slices.Clone(ids)) // hash these while the next are encoded
	}
	// Output:
	// [4 6]
	// [4 6 3 6]
}
