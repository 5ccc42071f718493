package events

import (
	"encoding/binary"
	"errors"
	"math"
)

// generic decodes any MessagePack value the slow way, by recursion into any; text is a string, bytes are []byte.
func generic(b []byte) (v any, rest []byte, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("truncated")
		}
	}()
	v, rest = value(b)
	return v, rest, nil
}

func uintOf(b []byte) uint64 {
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

func value(b []byte) (any, []byte) {
	c, b := b[0], b[1:]
	list := func(n uint64, b []byte) (any, []byte) {
		out := []any{}
		for range n {
			var v any
			v, b = value(b)
			out = append(out, v)
		}
		return out, b
	}
	dict := func(n uint64, b []byte) (any, []byte) {
		out := map[string]any{}
		for range n {
			var k, v any
			k, b = value(b)
			v, b = value(b)
			out[k.(string)] = v
		}
		return out, b
	}
	switch {
	case c <= 0x7f:
		return uint64(c), b
	case c >= 0xe0:
		return uint64(int64(int8(c))), b
	case c <= 0x8f:
		return dict(uint64(c&15), b)
	case c <= 0x9f:
		return list(uint64(c&15), b)
	case c <= 0xbf:
		return string(b[:c&31]), b[c&31:]
	}
	width := map[byte]int{0xc4: 1, 0xc5: 2, 0xc6: 4, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8, 0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4}[c]
	n, rest := uintOf(b[:width]), b[width:]
	switch c {
	case 0xc0:
		return nil, b
	case 0xc2, 0xc3:
		return c == 0xc3, b
	case 0xc4, 0xc5, 0xc6:
		return append([]byte{}, rest[:n]...), rest[n:]
	case 0xd9, 0xda, 0xdb:
		return string(rest[:n]), rest[n:]
	case 0xcb:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), b[8:]
	case 0xcc, 0xcd, 0xce, 0xcf:
		return n, rest
	case 0xd0:
		return uint64(int64(int8(n))), rest
	case 0xd1:
		return uint64(int64(int16(n))), rest
	case 0xd2:
		return uint64(int64(int32(n))), rest
	case 0xd3:
		return n, rest
	case 0xdc, 0xdd:
		return list(n, rest)
	case 0xde, 0xdf:
		return dict(n, rest)
	}
	panic("not handled")
}

// interpret reads a batch of the forms that Append writes, and of the fixtures, from generic values.
func interpret(v any) (time float64, rank int, out []Event) {
	rank = -1
	batch := v.([]any)
	time = batch[0].(float64)
	if len(batch) > 2 && batch[2] != nil {
		rank = int(batch[2].(uint64))
	}
	positions := map[string][]string{
		"BlockStored":      {"block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name", "extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window"},
		"BlockRemoved":     {"block_hashes", "medium", "group_idx"},
		"AllBlocksCleared": {},
	}
	for _, item := range batch[1].([]any) {
		if b, ok := item.([]byte); ok {
			item, _ = value(b)
		}
		m, ok := item.(map[string]any)
		if !ok {
			list := item.([]any)
			m = map[string]any{"type": list[0]}
			for i, key := range positions[list[0].(string)] {
				if i+1 < len(list) {
					m[key] = list[i+1]
				}
			}
		}
		kind := map[string]Kind{"BlockStored": Stored, "BlockRemoved": Removed, "AllBlocksCleared": Cleared}[m["type"].(string)]
		if kind != 0 {
			out = append(out, interpretEvent(kind, m))
		}
	}
	return time, rank, out
}

func interpretEvent(kind Kind, m map[string]any) Event {
	e := Event{Kind: kind, Group: -1}
	text := func(key string) string { s, _ := m[key].(string); return s }
	number := func(key string, absent int) int {
		if v, ok := m[key].(uint64); ok {
			return int(v)
		}
		return absent
	}
	hash := func(v any) (uint64, []byte) {
		if d, ok := v.([]byte); ok {
			return uintOf(d[max(0, len(d)-8):]), d
		}
		return v.(uint64), nil
	}
	e.Medium, e.Adapter, e.Salt, e.Owner, e.Model = text("medium"), text("lora_name"), text("cache_salt"), text("ownership"), text("model_name")
	e.Tier = tierOf(e.Medium)
	e.BlockTokens, e.Group, e.Window = number("block_size", 0), number("group_idx", -1), number("kv_cache_spec_sliding_window", 0)
	if v, ok := m["lora_id"].(uint64); ok {
		e.AdapterID, e.HasAdapterID = int64(v), true
	}
	if v := m["parent_block_hash"]; v != nil {
		e.Parent, _ = hash(v)
		e.HasParent = e.Parent != 0
	}
	for i, a := range attentions {
		if a != "" && a == text("kv_cache_spec_kind") {
			e.Attention = Attention(i)
		}
	}
	e.Locality = map[string]Locality{"LOCAL": Local, "REMOTE": Elsewhere}[text("locality")]
	hashes, _ := m["block_hashes"].([]any)
	digests := make([][]byte, len(hashes))
	for i, h := range hashes {
		low, digest := hash(h)
		e.Hashes = append(e.Hashes, low)
		if digests[i] = digest; digest != nil {
			e.Digests = digests
		}
	}
	tokens, _ := m["token_ids"].([]any)
	for i, t := range tokens {
		if pair, ok := t.([]any); ok {
			e.Pairs = true
			if i == 0 {
				e.Tokens = append(e.Tokens, uint32(pair[0].(uint64)))
			}
			t = pair[1]
		}
		e.Tokens = append(e.Tokens, uint32(t.(uint64)))
	}
	extras, _ := m["extra_keys"].([]any)
	for block, items := range extras {
		list, _ := items.([]any)
		for _, item := range list {
			switch v := item.(type) {
			case string:
				e.Extras = append(e.Extras, Extra{Block: block, Kind: Text, Value: v})
			case []byte:
				e.Extras = append(e.Extras, Extra{Block: block, Kind: Embeddings, Value: string(v)})
			case []any:
				e.Extras = append(e.Extras, Extra{Block: block, Kind: Item, Value: v[0].(string), Offset: int64(v[1].(uint64))})
			}
		}
	}
	if metadata, ok := m["lora_name"].(map[string]any); ok {
		e.Salt, _ = metadata["cache_salt"].(string)
	}
	e.findSalt()
	return e
}
