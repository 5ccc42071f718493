package events

import (
	"encoding/binary"
	"math"
)

// Form is a shape of events on the wire.
type Form uint8

// Maps is what vLLM has written since 0.24 and SGLang since 2026-09: a map for each event. Arrays is what vLLM 0.23 wrote.
const (
	Maps Form = iota
	Arrays
)

// Append writes a batch as an engine would, for publishers and simulated engines. Only Time, Rank and Events are read. An event
// of an unknown Kind is left out. Arrays have no place for Locality, Owner, Model and, apart from Extras, Salt.
func Append(dst []byte, b *Batch, form Form) []byte {
	n := 0
	for i := range b.Events {
		if k := b.Events[i].Kind; k >= Stored && k <= Cleared {
			n++
		}
	}
	dst = append(dst, 0x93, 0xcb)
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(b.Time))
	dst = appendArray(dst, n)
	for i := range b.Events {
		e := &b.Events[i]
		switch {
		case e.Kind < Stored || e.Kind > Cleared:
		case form == Arrays:
			dst = appendEventArray(dst, e)
		default:
			dst = appendEventMap(dst, e)
		}
	}
	if b.Rank < 0 {
		return append(dst, 0xc0)
	}
	return appendUint(dst, uint64(b.Rank))
}

func appendEventArray(dst []byte, e *Event) []byte {
	switch e.Kind {
	case Stored:
		dst = appendText(append(dst, 0x9c), "BlockStored")
		for _, f := range storedFields {
			dst = appendField(dst, e, f)
		}
	case Removed:
		dst = appendText(append(dst, 0x94), "BlockRemoved")
		for _, f := range removedFields {
			dst = appendField(dst, e, f)
		}
	default:
		dst = appendText(append(dst, 0x91), "AllBlocksCleared")
	}
	return dst
}

func appendEventMap(dst []byte, e *Event) []byte {
	var fields [fieldModel + 1]field
	n := 0
	add := func(f field, present bool) {
		if present {
			fields[n] = f
			n++
		}
	}
	tag := "AllBlocksCleared"
	if e.Kind != Cleared {
		tag = "BlockRemoved"
		add(fieldHashes, true)
		if e.Kind == Stored {
			tag = "BlockStored"
			add(fieldParent, true)
			add(fieldTokens, true)
			add(fieldBlockSize, true)
			add(fieldAdapterID, true)
		}
		add(fieldMedium, true)
		if e.Kind == Stored {
			add(fieldAdapter, true)
			add(fieldExtras, len(e.Extras) > 0)
			add(fieldSalt, e.Salt != "" && !e.saltInExtras())
		}
		add(fieldGroup, e.Group >= 0)
		add(fieldAttention, e.Attention != UnspecifiedAttention)
		add(fieldWindow, e.Window > 0)
		add(fieldLocality, e.Locality == Local || e.Locality == Elsewhere)
		add(fieldOwner, e.Owner != "")
		add(fieldModel, e.Model != "")
	}
	dst = append(dst, 0xde, 0, byte(n+1))
	if n+1 < 16 {
		dst = append(dst[:len(dst)-3], 0x80|byte(n+1))
	}
	dst = appendText(appendText(dst, "type"), tag)
	for _, f := range fields[:n] {
		dst = appendField(appendText(dst, fieldNames[f]), e, f)
	}
	return dst
}

func (e *Event) saltInExtras() bool {
	for i := range e.Extras {
		if e.Extras[i].Kind == Salt {
			return true
		}
	}
	return false
}

func appendField(dst []byte, e *Event, f field) []byte {
	switch f {
	case fieldHashes:
		dst = appendArray(dst, len(e.Hashes))
		for i, h := range e.Hashes {
			if i < len(e.Digests) && len(e.Digests[i]) > 0 {
				dst = appendBytes(dst, e.Digests[i])
			} else {
				dst = appendUint(dst, h)
			}
		}
	case fieldParent:
		if !e.HasParent {
			return append(dst, 0xc0)
		}
		dst = appendUint(dst, e.Parent)
	case fieldTokens:
		dst = appendTokens(dst, e)
	case fieldBlockSize:
		dst = appendUint(dst, uint64(max(0, e.BlockTokens)))
	case fieldAdapterID:
		if !e.HasAdapterID {
			return append(dst, 0xc0)
		}
		dst = appendInt(dst, e.AdapterID)
	case fieldMedium:
		dst = appendOptional(dst, e.medium())
	case fieldAdapter:
		dst = appendOptional(dst, e.Adapter)
	case fieldExtras:
		dst = appendExtras(dst, e)
	case fieldGroup:
		if e.Group < 0 {
			return append(dst, 0xc0)
		}
		dst = appendUint(dst, uint64(e.Group))
	case fieldAttention:
		dst = appendOptional(dst, e.Attention.String())
	case fieldWindow:
		if e.Window <= 0 {
			return append(dst, 0xc0)
		}
		dst = appendUint(dst, uint64(e.Window))
	case fieldLocality:
		if e.Locality == Local {
			return appendText(dst, "LOCAL")
		}
		dst = appendText(dst, "REMOTE")
	case fieldOwner:
		dst = appendText(dst, e.Owner)
	case fieldSalt:
		dst = appendText(dst, e.Salt)
	case fieldModel:
		dst = appendText(dst, e.Model)
	}
	return dst
}

func (e *Event) medium() string {
	if e.Medium != "" {
		return e.Medium
	}
	return [...]string{"", "", "CPU", "STORAGE", "REMOTE"}[min(e.Tier, Remote)]
}

func appendTokens(dst []byte, e *Event) []byte {
	if e.Pairs && len(e.Tokens) > 0 {
		dst = appendArray(dst, len(e.Tokens)-1)
		for i, t := range e.Tokens[1:] {
			dst = appendUint(appendUint(append(dst, 0x92), uint64(e.Tokens[i])), uint64(t))
		}
		return dst
	}
	dst = appendArray(dst, len(e.Tokens))
	for _, t := range e.Tokens {
		dst = appendUint(dst, uint64(t))
	}
	return dst
}

func appendExtras(dst []byte, e *Event) []byte {
	if len(e.Extras) == 0 {
		return append(dst, 0xc0)
	}
	dst = appendArray(dst, len(e.Hashes))
	rest := e.Extras
	for block := range e.Hashes {
		n := 0
		for n < len(rest) && rest[n].Block == block {
			n++
		}
		if n == 0 {
			dst = append(dst, 0xc0)
			continue
		}
		dst = appendArray(dst, n)
		for _, x := range rest[:n] {
			switch x.Kind {
			case Item:
				dst = appendInt(appendText(append(dst, 0x92), x.Value), x.Offset)
			case Embeddings:
				dst = appendBytes(dst, []byte(x.Value))
			default:
				dst = appendText(dst, x.Value)
			}
		}
		rest = rest[n:]
	}
	return dst
}

func appendArray(dst []byte, n int) []byte {
	switch {
	case n < 16:
		return append(dst, 0x90|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xdc), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xdd), uint32(n))
}

func appendUint(dst []byte, v uint64) []byte {
	switch {
	case v <= 0x7f:
		return append(dst, byte(v))
	case v <= math.MaxUint8:
		return append(dst, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xcf), v)
}

func appendInt(dst []byte, v int64) []byte {
	if v >= 0 {
		return appendUint(dst, uint64(v))
	}
	if v >= -32 {
		return append(dst, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(v))
}

func appendOptional(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, 0xc0)
	}
	return appendText(dst, s)
}

func appendText(dst []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		dst = append(dst, 0xa0|byte(n))
	case n <= math.MaxUint8:
		dst = append(dst, 0xd9, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xda), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xdb), uint32(n))
	}
	return append(dst, s...)
}

func appendBytes(dst, b []byte) []byte {
	switch n := len(b); {
	case n <= math.MaxUint8:
		dst = append(dst, 0xc4, byte(n))
	case n <= math.MaxUint16:
		dst = binary.BigEndian.AppendUint16(append(dst, 0xc5), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, 0xc6), uint32(n))
	}
	return append(dst, b...)
}
