package disk

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
)

// FuzzOpen opens a segment of any contents. Whatever is found in it reads as what it claims to be, or not at all.
func FuzzOpen(f *testing.F) {
	page := frame.Seal(nil, crashKey(1), store.Attr{}, []byte("page"))
	padded := append(page, make([]byte, block-len(page))...)
	f.Add(padded, []byte{})
	f.Add(padded, appendFooter(nil, appendEntry(nil, 0, page[:len(page)-4])))
	f.Add([]byte{}, appendFooter(nil, appendEntry(nil, 1<<20, page[:len(page)-4])))
	f.Fuzz(func(t *testing.T, start, end []byte) {
		content := make([]byte, minSegment)
		copy(content, start)
		copy(content[max(len(content)-len(end), 0):], end)
		in := newFaulty()
		in.now[nameOf(7)] = &faultyFile{in: in, name: nameOf(7), durable: content, content: content}
		o := crashOptions
		require.NoError(t, o.validateForTest())
		s, err := openFiles(t.Context(), o, in)
		require.NoError(t, err)
		for e, err := range s.Scan(t.Context(), "") {
			require.NoError(t, err)
			p, err := s.Get(t.Context(), e.Key)
			if err != nil {
				continue
			}
			require.Equal(t, e.Info.Bytes, int64(len(p.Bytes())))
			p.Release()
		}
		require.NoError(t, s.Put(t.Context(), crashKey(99), []byte("new"), store.Attr{}))
		require.NoError(t, s.Close())
	})
}
