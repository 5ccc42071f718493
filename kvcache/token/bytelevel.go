package token

import "unicode/utf8"

// Byte-level vocabularies name each byte by a printable character: those of Latin 1 that are printable by themselves, the
// others, in their order, by what comes from U+0100 on (GPT-2, bytes_to_unicode).
var byteRunes, runeBytes = func() (to [256]rune, from [0x144]int16) {
	for i := range from {
		from[i] = -1
	}
	other := rune(0x100)
	for b := range rune(256) {
		to[b] = b
		if b < '!' || b > '~' && b < 0xa1 || b == 0xad {
			to[b] = other
			other++
		}
		from[to[b]] = int16(b)
	}
	return to, from
}()

// unmapBytes appends the bytes that a token's characters name. It reports false, and appends nothing, when one names none.
func unmapBytes(dst, token []byte) ([]byte, bool) {
	start := len(dst)
	for len(token) > 0 {
		r, size := utf8.DecodeRune(token)
		if int(r) >= len(runeBytes) || runeBytes[r] < 0 {
			return dst[:start], false
		}
		dst = append(dst, byte(runeBytes[r]))
		token = token[size:]
	}
	return dst, true
}
