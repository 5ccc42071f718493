package selectserver

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// tokenIDs is a JSON array of token ids. Prompts have a hundred thousand of them, which encoding/json would take one by one.
type tokenIDs []uint32

// UnmarshalJSON implements json.Unmarshaler. What it is given is valid JSON.
func (t *tokenIDs) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*t = nil
		return nil
	}
	if b[0] != '[' {
		return invalid(fmt.Sprintf("prompt.tokens %.20q: want an array of token ids", b))
	}
	ids := make(tokenIDs, 0, len(b)/6+1)
	for i, end := 1, len(b)-1; i < end; {
		switch b[i] {
		case ' ', '\t', '\r', '\n', ',':
			i++
			continue
		}
		start, id := i, uint64(0)
		for ; i < end && b[i]-'0' < 10 && id <= math.MaxUint32; i++ {
			id = id*10 + uint64(b[i]-'0')
		}
		if i == start || id > math.MaxUint32 || i < end && strings.IndexByte(" \t\r\n,", b[i]) < 0 {
			return invalid(fmt.Sprintf("prompt.tokens[%d] %.20q: want a token id from 0 to %d", len(ids), b[start:end], uint32(math.MaxUint32)))
		}
		ids = append(ids, uint32(id))
	}
	*t = ids
	return nil
}

// blockSum is the hash of a block: a JSON number, or a string with one, since numbers above 2^53 do not survive in every
// language; hexadecimal behind 0x.
type blockSum uint64

// UnmarshalJSON implements json.Unmarshaler.
func (h *blockSum) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	hex, isHex := strings.CutPrefix(text, "0x")
	base := 10
	if isHex {
		text, base = hex, 16
	}
	v, err := strconv.ParseUint(text, base, 64)
	if err != nil {
		return invalid(fmt.Sprintf("prompt.blocks hash %.40s: want a number from 0 to 2^64-1, or a string with one", b))
	}
	*h = blockSum(v)
	return nil
}
