package events

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func fixtures(t testing.TB) map[string][]byte {
	raw, err := os.ReadFile("testdata/fixtures.json")
	require.NoError(t, err)
	var file struct {
		Msgpack []struct{ Name, Hex string }
	}
	require.NoError(t, json.Unmarshal(raw, &file))
	out := map[string][]byte{}
	for _, m := range file.Msgpack {
		out[m.Name], err = hex.DecodeString(m.Hex)
		require.NoError(t, err)
	}
	require.NotEmpty(t, out)
	return out
}

func same(t require.TestingT, want, have []Event) {
	if d := cmp.Diff(want, have, cmpopts.EquateEmpty()); d != "" {
		require.Fail(t, d)
	}
}

// Every fixture decodes without an error to what the slow decoder makes of it.
func TestFixtures(t *testing.T) {
	var d Decoder
	for name, payload := range fixtures(t) {
		t.Run(name, func(t *testing.T) {
			var b Batch
			require.NoError(t, d.Decode(payload, &b))
			require.NoError(t, b.FirstError)
			v, rest, err := generic(payload)
			require.NoError(t, err)
			require.Empty(t, rest)
			time, rank, want := interpret(v)
			same(t, want, b.Events)
			require.Equal(t, []any{time, rank}, []any{b.Time, b.Rank})
			require.NotEmpty(t, b.Events)
		})
	}
}

// What the fixtures mean, said once by hand, as the slow decoder could share a misunderstanding.
func TestMeaning(t *testing.T) {
	f := fixtures(t)
	var d Decoder
	var b Batch
	decode := func(name string) *Event {
		require.NoError(t, d.Decode(f[name], &b), name)
		return &b.Events[0]
	}
	e := decode("vllm_map_event")
	assert.Equal(t, []uint64{0x2ceabcfae6d332ea, 0x26470bbec927f5bf}, e.Hashes)
	assert.True(t, e.Dense() && !e.HasParent && e.Tier == GPU && e.Attention == FullAttention && e.Group == 0)
	assert.Equal(t, []Kind{Stored, Removed, Cleared}, []Kind{b.Events[0].Kind, b.Events[1].Kind, b.Events[2].Kind})
	assert.Equal(t, uint64(0x8000000000000005), decode("vllm_negative_int_hash").Hashes[0])
	assert.Equal(t, []Extra{{Block: 0, Kind: Item, Value: "img0", Offset: 8}, {Block: 1, Kind: Item, Value: "img0", Offset: -8}}, decode("vllm_mm_tuple").Extras)
	e = decode("vllm_swa_sparse")
	assert.True(t, !e.Dense() && e.Attention == SlidingWindow && e.Window == 128 && e.Group == 1)
	assert.Equal(t, CPU, decode("sglang_array").Tier)
	assert.Equal(t, "tenant-a", decode("sglang_map_salt").Salt)
	e = decode("unknown_event_then_good")
	assert.True(t, e.Kind == Removed && b.Unknown == 1 && len(b.Events) == 1)
	e = decode("llmd_fs_backend")
	assert.True(t, e.Tier == Remote && !e.HasParent && len(e.Tokens) == 0 && b.Rank == -1)
}

// msg builds MessagePack by hand for shapes that no encoder of ours writes.
type dict []any // keys and values in turn

func msg(v any) []byte {
	switch v := v.(type) {
	case nil:
		return []byte{0xc0}
	case bool:
		if v {
			return []byte{0xc3}
		}
		return []byte{0xc2}
	case int:
		return appendInt(nil, int64(v))
	case uint64:
		return appendUint(nil, v)
	case string:
		return appendText(nil, v)
	case []byte:
		return appendBytes(nil, v)
	case []any:
		out := appendArray(nil, len(v))
		for _, x := range v {
			out = append(out, msg(x)...)
		}
		return out
	case dict:
		out := []byte{0xde, 0, byte(len(v) / 2)}
		for _, x := range v {
			out = append(out, msg(x)...)
		}
		return out
	}
	panic(v)
}

type list = []any

func TestShapes(t *testing.T) {
	digest := []byte("0123456789abcdef0123456789abcdef")
	for _, c := range []struct {
		name  string
		event any
		check func(*Event) bool
	}{
		{"digests", list{"BlockStored", list{digest, 7}, digest, list{}, 16, nil}, func(e *Event) bool {
			return e.Hashes[0] == 0x3839616263646566 && string(e.Digests[0]) == string(digest) && e.Digests[1] == nil && e.Parent == e.Hashes[0]
		}},
		{"short digest", list{"BlockRemoved", list{[]byte{1, 2}}}, func(e *Event) bool { return e.Hashes[0] == 0x102 && e.Tier == GPU }},
		{"digits", list{"BlockRemoved", list{"ffffffffffffffff0000000000000abc"}}, func(e *Event) bool { return e.Hashes[0] == 0xabc }},
		{"eagle", list{"BlockStored", list{1}, nil, list{list{5, 6}, list{6, 7}}, 2, nil}, func(e *Event) bool {
			return e.Pairs && e.Dense() && cmp.Equal(e.Tokens, []uint32{5, 6, 7})
		}},
		{"adapter and salt", dict{"type", "BlockStored", "block_hashes", list{1, 2}, "parent_block_hash", nil, "token_ids", list{1, 2}, "block_size", 1,
			"lora_name", "sql", "extra_keys", list{list{"sql", "tenant"}, list{"sql"}}}, func(e *Event) bool {
			return e.Adapter == "sql" && e.Salt == "tenant" && e.Extras[0].Kind == AdapterName && e.Extras[1].Kind == Salt
		}},
		{"bare item is no salt", list{"BlockStored", list{1, 2}, nil, list{1, 2}, 1, nil, "GPU", nil, list{list{"img"}, list{"img"}}}, func(e *Event) bool {
			return e.Salt == "" && e.Extras[0].Kind == Text
		}},
		{"salted array of sglang", list{"BlockStored", list{1}, nil, list{1}, 1, nil, "GPU", dict{"cache_salt", "t", "session_id", "s"}}, func(e *Event) bool {
			return e.Salt == "t" && e.Adapter == ""
		}},
		{"trt-llm", dict{"type", "BlockStored", "block_hashes", list{1}, "parent_block_hash", nil, "token_ids", list{"a", 2}, "block_size", 2, "lora_id", 3,
			"medium", "GPU", "lora_name", nil, "mm_keys", list{list{dict{"type", "mm_key", "hash", "ab", "start_offset", 4, "uuid", "u"}}}}, func(e *Event) bool {
			return len(e.Tokens) == 0 && e.AdapterID == 3 && e.Extras[0] == Extra{Kind: Item, Value: "ab", Offset: 4}
		}},
		{"typed extras", dict{"type", "BlockStored", "block_hashes", list{1}, "extra_keys", list{list{dict{"type", "cache_salt", "salt", "t"}, dict{"type", "lora", "name", "l"}}}}, func(e *Event) bool {
			return e.Salt == "t" && e.Extras[1].Kind == AdapterName
		}},
		{"type last", dict{"block_hashes", list{9}, "medium", "NVME", "type", "BlockRemoved"}, func(e *Event) bool { return e.Hashes[0] == 9 && e.Tier == Disk }},
		{"unknown field", dict{"type", "BlockRemoved", "block_hashes", list{9}, "new", dict{"a", list{1, nil, true}}, "locality", "MARS"}, func(e *Event) bool {
			return e.Locality == OtherLocality
		}},
		{"wrapped", msg(list{"BlockRemoved", list{9}}), func(e *Event) bool { return e.Hashes[0] == 9 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, batch := range []any{list{1, list{c.event}, 3}, list{1, list{c.event}, 3, "later"}, dict{"data_parallel_rank", 3, "events", list{c.event}, "ts", 1}} {
				var d Decoder
				var b Batch
				require.NoError(t, d.Decode(msg(batch), &b))
				require.NoError(t, b.FirstError)
				require.Len(t, b.Events, 1)
				require.Equal(t, 3, b.Rank)
				require.True(t, c.check(&b.Events[0]), "%+v", b.Events[0])
			}
		})
	}
}

// A wrong event is left out and says why; its neighbours stay.
func TestWrongEvents(t *testing.T) {
	good := list{"BlockRemoved", list{7}}
	for want, bad := range map[string]any{
		"block_hashes: want an array, have text":                       list{"BlockRemoved", "x"},
		"block_hashes: missing":                                        dict{"type", "BlockStored"},
		"block_hashes: want a whole number, have a map":                list{"BlockRemoved", list{dict{}}},
		"block_hashes: a hash as text has hexadecimal digits only":     list{"BlockRemoved", list{"xyz"}},
		"token_ids: want a whole number, have nil":                     list{"BlockStored", list{1}, nil, list{1, nil}, 16},
		"token_ids: the number must be between 0 and 4294967295":       list{"BlockStored", list{1}, nil, list{-1}, 16},
		"token_ids: a pair has two tokens":                             list{"BlockStored", list{1}, nil, list{list{1}}, 16},
		"token_ids: the pair does not start where the one before ends": list{"BlockStored", list{1}, nil, list{list{1, 2}, list{3, 4}}, 2},
		"block_size: the number must be between 0 and 2147483647":      dict{"type", "BlockStored", "block_hashes", list{1}, "block_size", -16},
		"medium: want text, have a whole number":                       list{"BlockRemoved", list{1}, 4},
		"want a map, have a whole number":                              5,
		"kv events: byte 37: the event's bytes go on after it":         append(msg(good), 1),
		"block_hashes: " + truncated:                                   msg(good)[:14],
	} {
		var d Decoder
		var b Batch
		require.NoError(t, d.Decode(msg(list{1, list{good, bad, list{"New", 1}, good}, 0}), &b), want)
		require.Equal(t, 1, b.Malformed, want)
		require.ErrorContains(t, b.FirstError, want)
		require.Equal(t, 1, b.Unknown)
		require.Len(t, b.Events, 2, want)
		require.Equal(t, []uint64{7}, b.Events[1].Hashes)
		var e *Error
		require.ErrorAs(t, b.FirstError, &e)
		require.Positive(t, e.Offset)
	}
}

func TestWrongPayloads(t *testing.T) {
	for want, payload := range map[string][]byte{
		"byte 0: the payload ends too early":          {},
		"byte 0: want an array, have text":            msg("x"),
		"byte 0: a batch has a time and events":       msg(list{1}),
		"byte 0: the batch has no events":             msg(dict{"ts", 1}),
		"byte 3: the payload goes on after the batch": append(msg(list{1, list{}}), 0),
		"byte 2: want an array, have nil":             msg(list{1, nil}),
		"byte 7: the payload ends too early":          {0x92, 0x01, 0xdd, 0xff, 0xff, 0xff, 0xff},
		"byte 3: want a map, have an invalid byte":    {0x92, 0x01, 0x91, 0xc1},
	} {
		var d Decoder
		var b Batch
		err := d.Decode(payload, &b)
		require.ErrorContains(t, err, want)
		var e *Error
		require.True(t, errors.As(err, &e))
	}
}

func genEvent(t *rapid.T) Event {
	word := rapid.StringMatching(`[a-zA-Z0-9@/._-]{1,40}`)
	e := Event{Kind: Kind(rapid.IntRange(1, 3).Draw(t, "kind")), Group: -1, Tier: GPU}
	if e.Kind == Cleared {
		return e
	}
	e.Medium = rapid.SampledFrom([]string{"GPU", "CPU", "STORAGE", "CPU_PINNED", "EXTERNAL", "moon"}).Draw(t, "medium")
	e.Hashes = rapid.SliceOfN(rapid.Uint64(), 0, 20).Draw(t, "hashes")
	if len(e.Hashes) > 0 && rapid.Bool().Draw(t, "digests") {
		e.Digests = make([][]byte, len(e.Hashes))
		for i := range e.Hashes {
			if rapid.Bool().Draw(t, "digest") || i == 0 {
				e.Digests[i] = rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "bytes")
				e.Hashes[i] = uintOf(e.Digests[i][max(0, len(e.Digests[i])-8):])
			}
		}
	}
	e.Group = rapid.IntRange(-1, 300).Draw(t, "group")
	if e.Kind == Removed {
		return e
	}
	e.Parent = rapid.Uint64().Draw(t, "parent")
	e.HasParent = e.Parent != 0
	e.BlockTokens = rapid.IntRange(0, 1<<20).Draw(t, "block")
	e.Tokens = rapid.SliceOfN(rapid.Uint32(), 0, 70).Draw(t, "tokens")
	e.Pairs = len(e.Tokens) > 1 && rapid.Bool().Draw(t, "pairs")
	if e.HasAdapterID = rapid.Bool().Draw(t, "id"); e.HasAdapterID {
		e.AdapterID = rapid.Int64().Draw(t, "adapter id")
	}
	if rapid.Bool().Draw(t, "adapter") {
		e.Adapter = word.Draw(t, "name")
	}
	for block := range e.Hashes {
		for range rapid.IntRange(0, 2).Draw(t, "items") {
			x := Extra{Block: block, Kind: rapid.SampledFrom([]ExtraKind{Text, Item, Embeddings}).Draw(t, "item"), Value: word.Draw(t, "value")}
			if x.Kind == Item {
				x.Offset = rapid.Int64().Draw(t, "offset")
			}
			e.Extras = append(e.Extras, x)
		}
	}
	e.Attention = Attention(rapid.IntRange(0, len(attentions)-1).Draw(t, "attention"))
	e.Window = rapid.IntRange(0, 5000).Draw(t, "window")
	return e
}

// What Append writes is read back the same by the decoder and by the slow one, in both forms, with one Decoder and Batch used
// throughout.
func TestRoundTripAndOracle(t *testing.T) {
	var d Decoder
	var have Batch
	rapid.Check(t, func(t *rapid.T) {
		form := Form(rapid.IntRange(0, 1).Draw(t, "form"))
		b := Batch{Time: rapid.Float64().Draw(t, "time"), Rank: rapid.IntRange(-1, 1000).Draw(t, "rank")}
		b.Events = rapid.SliceOfN(rapid.Custom(genEvent), 0, 20).Draw(t, "events")
		if form == Maps {
			for i := range b.Events {
				if e := &b.Events[i]; e.Kind != Cleared {
					e.Locality = Locality(rapid.IntRange(0, 2).Draw(t, "locality"))
					e.Owner = rapid.SampledFrom([]string{"", "tier2"}).Draw(t, "owner")
					e.Model = rapid.SampledFrom([]string{"", "m"}).Draw(t, "model")
				}
			}
		}
		payload := Append(nil, &b, form)
		for i := range b.Events {
			b.Events[i].Tier = tierOf(b.Events[i].Medium)
			b.Events[i].findSalt()
		}
		require.NoError(t, d.Decode(payload, &have))
		require.NoError(t, have.FirstError)
		same(t, b.Events, have.Events)
		require.Equal(t, b.Rank, have.Rank)
		v, rest, err := generic(payload)
		require.NoError(t, err)
		require.Empty(t, rest)
		time, rank, slow := interpret(v)
		same(t, slow, have.Events)
		require.Equal(t, have.Rank, rank)
		require.Equal(t, have.Time, time)
	})
}

func FuzzDecode(f *testing.F) {
	for _, payload := range fixtures(f) {
		f.Add(payload)
	}
	f.Add(msg(list{1, list{list{"BlockStored", list{1}, nil, list{list{5, 6}, list{6, 7}}, 2, nil}}, 3}))
	var again Decoder
	var reused Batch
	f.Fuzz(func(t *testing.T, payload []byte) {
		var d Decoder
		var b Batch
		err := d.Decode(payload, &b)
		errAgain := again.Decode(payload, &reused) // what went before has no influence
		require.Equal(t, err == nil, errAgain == nil)
		same(t, b.Events, reused.Events)
		require.LessOrEqual(t, cap(b.tokens)+cap(b.hashes), 64+32*len(payload))
		for _, form := range []Form{Maps, Arrays} { // what was read can be written and read
			var c Batch
			require.NoError(t, d.Decode(Append(nil, &b, form), &c))
			require.Len(t, c.Events, len(b.Events))
		}
	})
}
