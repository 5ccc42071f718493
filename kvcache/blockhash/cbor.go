package blockhash

import "encoding/binary"

// The major types of CBOR (RFC 8949) that hashed values use.
const (
	cborUint  = 0 << 5
	cborNeg   = 1 << 5
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
	cborNull  = 0xf6
)

// appendHead appends a major type with a number in its shortest form.
func appendHead(dst []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(dst, major|byte(n))
	case n < 1<<8:
		return append(dst, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|27), n)
}

func appendCBORText(dst []byte, s string) []byte {
	return append(appendHead(dst, cborText, uint64(len(s))), s...)
}

func appendCBORInt(dst []byte, n int) []byte {
	if n < 0 {
		return appendHead(dst, cborNeg, uint64(-1-n))
	}
	return appendHead(dst, cborUint, uint64(n))
}

func appendCBORTokens(dst []byte, tokens []uint32) []byte {
	dst = appendHead(dst, cborArray, uint64(len(tokens)))
	for _, t := range tokens {
		dst = appendHead(dst, cborUint, uint64(t))
	}
	return dst
}
