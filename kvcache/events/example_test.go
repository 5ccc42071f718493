package events_test

import (
	"fmt"

	"github.com/inferloom/inferloom/kvcache/events"
)

func ExampleDecoder() {
	// What an engine has sent: two blocks stored, then one of them removed.
	payload := events.Append(nil, &events.Batch{Time: 1.5, Rank: 0, Events: []events.Event{
		{Kind: events.Stored, Hashes: []uint64{11, 12}, Tokens: []uint32{5, 6, 7, 8}, BlockTokens: 2, Medium: "GPU", Group: -1},
		{Kind: events.Removed, Hashes: []uint64{12}, Medium: "CPU", Group: -1},
	}}, events.Maps)

	var d events.Decoder
	var b events.Batch // reused from message to message
	if err := d.Decode(payload, &b); err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range b.Events {
		fmt.Println(e.Kind, e.Tier, e.Hashes, e.Tokens, e.Dense())
	}
	// Output:
	// stored gpu [11 12] [5 6 7 8] true
	// removed cpu [12] [] false
}
