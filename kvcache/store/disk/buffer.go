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
	home  *buffers
}

// buffers keeps some of those that are not in use. A sync.Pool would lose them with every collection, and large buffers make
// collections frequent where the heap is small.
type buffers struct {
	mu   sync.Mutex
	idle map[int][]*buffer // by size
	kept int64             // bytes in idle
}

// maxIdle bounds the bytes that are kept.
const maxIdle = 64 << 20

// get returns a buffer of at least so many bytes, at most an eighth more, and whole blocks.
func (p *buffers) get(size int64) *buffer {
	shift := max(bits.Len64(uint64(max(size, 1)-1))-4, 12)
	n := int((max(size, 1) + 1<<shift - 1) >> shift << shift)
	if b := p.take(n); b != nil {
		return b
	}
	return &buffer{bytes: aligned(n), home: p}
}

func (p *buffers) take(n int) *buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.idle[n]
	if len(of) == 0 {
		return nil
	}
	b := of[len(of)-1]
	p.idle[n] = of[:len(of)-1]
	p.kept -= int64(n)
	return b
}

// aligned makes memory that direct reads and writes can use.
func aligned(n int) []byte {
	raw := make([]byte, n+block)
	skip := (block - int(uintptr(unsafe.Pointer(&raw[0]))%block)) % block
	return raw[skip : skip+n : skip+n]
}

func (b *buffer) free() {
	b.attr = store.Attr{}
	p := b.home
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept+int64(len(b.bytes)) > maxIdle {
		return
	}
	if p.idle == nil {
		p.idle = map[int][]*buffer{}
	}
	p.idle[len(b.bytes)] = append(p.idle[len(b.bytes)], b)
	p.kept += int64(len(b.bytes))
}

// ReleasePage is called by the page that was read into the buffer.
func (b *buffer) ReleasePage(uint64) { b.free() }

// PageAttr is called by the page that was read into the buffer.
func (b *buffer) PageAttr(uint64) store.Attr { return b.attr }
