package disk

import (
	"math/bits"
	"sync"
	"unsafe"

	"github.com/inferloom/inferloom/kvcache/store"
)

// block is what direct reads and writes are aligned to.
const block = 4096

func blocks(n int64) int64 { return (n + block - 1) / block * block }

// buffer is memory aligned to blocks. It is the owner of the page that was read into it.
type buffer struct {
	bytes []byte
	attr  store.Attr
	home  *sync.Pool
}

// buffers keeps those that are not in use, by size. The collector frees them when memory is short.
type buffers struct{ pools [64 * 8]sync.Pool }

// get returns a buffer of at least so many bytes, at most an eighth more, and whole blocks.
func (p *buffers) get(size int64) *buffer {
	shift := max(bits.Len64(uint64(max(size, 1)-1))-4, 12)
	steps := (max(size, 1) + 1<<shift - 1) >> shift
	pool := &p.pools[shift*8+int(steps-1)%8]
	if b, ok := pool.Get().(*buffer); ok && int64(len(b.bytes)) == steps<<shift {
		return b
	}
	return newBuffer(int(steps<<shift), pool)
}

func newBuffer(n int, home *sync.Pool) *buffer {
	raw := make([]byte, n+block)
	skip := (block - int(uintptr(unsafe.Pointer(&raw[0]))%block)) % block
	return &buffer{bytes: raw[skip : skip+n : skip+n], home: home}
}

func (b *buffer) free() {
	b.attr = store.Attr{}
	b.home.Put(b)
}

// ReleasePage is called by the page that was read into the buffer.
func (b *buffer) ReleasePage(uint64) { b.free() }

// PageAttr is called by the page that was read into the buffer.
func (b *buffer) PageAttr(uint64) store.Attr { return b.attr }
