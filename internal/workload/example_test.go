package workload_test

import (
	"fmt"
	"strings"

	"github.com/inferloom/inferloom/internal/workload"
)

func ExampleMooncake() {
	trace := strings.NewReader(`
{"timestamp": 27482, "input_length": 515, "output_length": 52, "hash_ids": [46, 47]}
{"timestamp": 30535, "input_length": 514, "output_length": 26, "hash_ids": [46, 2366]}
{"timestamp": 30000, "input_length": 512, "output_length": 26, "hash_ids": [46]}`)
	for r, err := range workload.Mooncake(trace) {
		if err != nil {
			fmt.Println(err)
			break
		}
		text := r.Messages[0].AppendText(nil)
		fmt.Printf("%v: %q, %d tokens\n", r.At, text[len(text)-16:], r.InputTokens)
	}
	// Output:
	// 0s: "tom duj puk jom ", 515 tokens
	// 3.053s: "nop tom siv dod ", 514 tokens
	// line 4: timestamp 30000 is before the 30535 of an earlier line, want them in order
}
