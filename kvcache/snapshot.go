package kvcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"

	"github.com/inferloom/inferloom/kvcache/events"
)

// A snapshot is a header, the pods, the runs, and a checksum of all before it. Numbers are little-endian; counts and small numbers are
// of 32 bits, hashes and sequence numbers of 64. What was guessed is not in it.
//
//	"inferloom kv 1\n"
//	pods:  count, then of each: name, model, revision, capacity, follows, sequence, groups
//	runs:  for each that is held, its blocks (never 0), flags, [parent, provisional hash], hashes, columns of names, spans
//	0, checksum (CRC-32C)
//
// A span is where it ends, how many hold it, and pod and plane of each holder with how many copies it has beyond one of each block,
// if any block of the run has.
const snapshotMagic = "inferloom kv 1\n"

// ErrSnapshot is wrapped by errors about a snapshot that is damaged or not one.
var ErrSnapshot = errors.New("kvcache: not a whole snapshot")

// Snapshot writes what pods hold and up to which sequence numbers their events are applied. Updates wait while it is taken, which
// takes about a hundredth of a second for a million blocks; they do not wait for w.
func (x *Index) Snapshot(w io.Writer) error {
	_, err := w.Write(x.snapshot())
	return err
}

func (x *Index) snapshot() []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := make([]byte, 0, 4096+24*x.distinct)
	b = append(b, snapshotMagic...)
	count := len(b)
	b = append32(b, 0)
	for i := range x.pods {
		if s := &x.pods[i]; s.open {
			binary.LittleEndian.PutUint32(b[count:], binary.LittleEndian.Uint32(b[count:])+1)
			b = s.append(b)
		}
	}
	for id := range x.freeRuns.next {
		if x.runs[id].flags&runLive != 0 && x.names.first != nil {
			b = x.appendRun(b, id)
		}
	}
	b = append32(b, 0)
	return append32(b, int(crc32.Checksum(b, castagnoli)))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func append32(b []byte, n int) []byte { return binary.LittleEndian.AppendUint32(b, uint32(n)) }

func appendText(b []byte, s string) []byte { return append(append32(b, len(s)), s...) }

func (s *pod) append(b []byte) []byte {
	b = append32(b, int(s.ID))
	b = appendText(appendText(appendText(b, s.options.Name), s.options.Model), s.options.Revision)
	follows := 0
	if s.follows {
		follows = 1
	}
	b = binary.LittleEndian.AppendUint64(append32(b, follows), s.sequence)
	b = append32(b, len(s.groups))
	for _, g := range s.groups {
		for _, n := range []int{g.ID, g.BlockTokens, int(g.Attention), g.Window, g.number} {
			b = append32(b, n)
		}
	}
	return b
}

func (x *Index) appendRun(b []byte, id uint32) []byte {
	r := &x.runs[id]
	if !x.anyExact(r) {
		return b
	}
	n := int(r.length)
	b = append32(append32(b, n), int(r.flags&(runWaiting|runBag|runCopies)))
	if r.flags&runWaiting != 0 {
		b = binary.LittleEndian.AppendUint64(b, x.waits[id].parent)
		b = binary.LittleEndian.AppendUint64(b, x.waits[id].from)
	}
	for pos := 0; pos < n; pos += segmentBlocks {
		for _, h := range x.hashes[int(r.segments[pos/segmentBlocks])*segmentBlocks:][:min(segmentBlocks, n-pos)] {
			b = binary.LittleEndian.AppendUint64(b, h)
		}
	}
	for s := range (n + segmentBlocks - 1) / segmentBlocks {
		for c := x.names.first[r.segments[s]]; c != none; c = x.names.columns[c].next {
			col := &x.names.columns[c]
			b = append32(append32(b, s+1), int(col.pod))
			b = append32(b, int(col.used))
			for left := col.used; left != 0; left &= left - 1 {
				b = binary.LittleEndian.AppendUint64(b, x.names.hashes[int(c)*segmentBlocks+bits.TrailingZeros32(left)])
			}
		}
	}
	b = append32(b, 0)
	var list spanList
	x.load(r, &list)
	b = append32(b, list.n)
	start := 0
	for _, s := range list.s[:list.n] {
		b = append32(b, s.end())
		count := len(b)
		b = append32(b, 0)
		holders := 0
		x.sets.each(s.set(), func(plane int, pod uint32) {
			if plane == int(Guessed) {
				return
			}
			holders++
			b = append32(append32(b, int(pod)), plane)
			if r.flags&runCopies != 0 {
				for pos := start; pos < s.end(); pos++ {
					b = append32(b, int(x.copies[x.copyKey(r, pos, pod, plane)]))
				}
			}
		})
		binary.LittleEndian.PutUint32(b[count:], uint32(holders))
		start = s.end()
	}
	return b
}

// anyExact tells whether somebody is known to hold any block of a run.
func (x *Index) anyExact(r *run) (any bool) {
	var list spanList
	x.load(r, &list)
	for _, s := range list.s[:list.n] {
		if s.set() != 0 && shape(x.sets.record(s.set())[setShape]).planes()&exactPlanes != 0 {
			return true
		}
	}
	return false
}

// Restore reads a snapshot into an index that holds nothing yet. Bind says which pod of the index a pod of the snapshot is, which
// must be open, or that it is none, whose blocks are then left out. The options of the index's pods stay. Events with sequence
// numbers up to the snapshot's are duplicates from then on, and what follows them follows without a gap: subscribe first,
// restore, then apply what has arrived. After an error the index holds nothing.
func (x *Index) Restore(r io.Reader, bind func(name string) (Pod, bool)) error {
	var b bytes.Buffer
	if known, ok := r.(interface{ Len() int }); ok {
		b.Grow(known.Len() + bytes.MinRead)
	}
	if _, err := b.ReadFrom(r); err != nil {
		return fmt.Errorf("kvcache: reading a snapshot: %w", err)
	}
	return x.restore(b.Bytes(), bind)
}

func (x *Index) restore(b []byte, bind func(name string) (Pod, bool)) error {
	if len(b) < len(snapshotMagic)+12 || string(b[:len(snapshotMagic)]) != snapshotMagic {
		return fmt.Errorf("%w: it does not begin as one", ErrSnapshot)
	}
	end := len(b) - 4
	if crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return fmt.Errorf("%w: wrong checksum", ErrSnapshot)
	}
	d := &snapshotReader{b: b[len(snapshotMagic):end]}
	pods, err := d.pods(bind)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.names.first == nil {
		return errors.New("kvcache: restoring into an index for guesses only")
	}
	if x.freeRuns.taken() > 0 {
		return errors.New("kvcache: restoring into an index that holds blocks")
	}
	for _, p := range pods {
		if !p.bound {
			continue
		}
		s := x.pod(p.to)
		if s == nil {
			return fmt.Errorf("kvcache: restoring pod %q: %w", p.name, ErrClosed)
		}
		s.follows, s.sequence, s.groups = p.follows, p.sequence, p.groups
	}
	x.publishGroups()
	x.names.expect(len(d.b) / 16)
	if err := x.readRuns(d, pods); err != nil {
		for id := range x.freeRuns.next {
			if x.runs[id].flags&runLive != 0 {
				x.forget(id)
			}
		}
		for i := range x.pods {
			x.pods[i].follows = false
		}
		return err
	}
	return nil
}

// savedPod is a pod of a snapshot.
type savedPod struct {
	to       Pod
	bound    bool
	name     string
	follows  bool
	sequence uint64
	groups   []group
}

// snapshotReader reads numbers; after the first that is not there all are zero.
type snapshotReader struct {
	b   []byte
	bad bool
}

func (d *snapshotReader) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *snapshotReader) number() int {
	if b := d.take(4); b != nil {
		return int(binary.LittleEndian.Uint32(b))
	}
	return 0
}

func (d *snapshotReader) hash() uint64 {
	if b := d.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (d *snapshotReader) text() string { return string(d.take(d.number())) }

func (d *snapshotReader) pods(bind func(string) (Pod, bool)) (map[uint32]savedPod, error) {
	pods := map[uint32]savedPod{}
	for n := d.number(); n > 0 && !d.bad; n-- {
		id := uint32(d.number())
		p := savedPod{name: d.text()}
		d.text()
		d.text()
		p.follows, p.sequence = d.number() != 0, d.hash()
		for k := d.number(); k > 0 && !d.bad; k-- {
			g := group{Group: Group{ID: d.number(), BlockTokens: d.number()}}
			g.Attention, g.Window, g.number = attention(d.number()), d.number(), d.number()
			if g.number >= maxGroups {
				d.bad = true
			}
			p.groups = append(p.groups, g)
		}
		if p.to, p.bound = bind(p.name); d.bad {
			break
		}
		pods[id] = p
	}
	if d.bad {
		return nil, fmt.Errorf("%w: it ends among its pods", ErrSnapshot)
	}
	return pods, nil
}

// readRuns makes the runs of a snapshot. It stops without an error where there is no room for more.
func (x *Index) readRuns(d *snapshotReader, pods map[uint32]savedPod) error {
	broken := fmt.Errorf("%w: a run that makes no sense", ErrSnapshot)
	for n := d.number(); n > 0; n = d.number() {
		flags := d.number()
		if n > runBlocks {
			return broken
		}
		var w wait
		if flags&runWaiting != 0 {
			w.parent, w.from = d.hash(), d.hash()
		}
		chain := x.chain[:0]
		for range n {
			chain = append(chain, d.hash())
		}
		x.chain = chain
		if d.bad {
			return broken
		}
		if x.freeSegments.left() < runSegments+8 || x.freeRuns.left() < 8 || x.names.free.left() < runSegments+8 || !x.sets.room() {
			return nil
		}
		if _, ok := x.byFirst.get(chain[0]); ok {
			return broken
		}
		id, made := x.create(chain, uint32(flags)&(runWaiting|runBag|runCopies))
		if made < n {
			return nil
		}
		if flags&runWaiting != 0 {
			x.await(id, w.parent, w.from)
		}
		if !x.readNames(d, id, pods) || !x.readSpans(d, id, pods) {
			return broken
		}
	}
	if d.bad || len(d.b) > 0 {
		return broken
	}
	return nil
}

func (x *Index) readNames(d *snapshotReader, id uint32, pods map[uint32]savedPod) bool {
	r := &x.runs[id]
	for s := d.number(); s > 0; s = d.number() {
		from, used := uint32(d.number()), uint32(d.number())
		if s--; s*segmentBlocks >= int(r.length) || d.bad {
			return false
		}
		used &= uint32(uint64(1)<<min(segmentBlocks, int(r.length)-s*segmentBlocks) - 1)
		p, known := pods[from]
		if from != none && (!known || !p.bound) || x.names.free.left() == 0 { // names that nobody here uses
			d.take(8 * bits.OnesCount32(used))
			continue
		}
		pod := none
		if from != none {
			pod = p.to.ID
			x.enter(id, &x.pods[pod])
		}
		first := &x.names.first[r.segments[s]]
		c := x.names.free.take()
		x.names.columns[c] = column{run: id, next: *first, index: uint32(s), pod: pod}
		*first = c
		for left := used; left != 0; left &= left - 1 {
			x.names.add(d.hash(), c*segmentBlocks+uint32(bits.TrailingZeros32(left)))
		}
	}
	return !d.bad
}

func (x *Index) readSpans(d *snapshotReader, id uint32, pods map[uint32]savedPod) bool {
	r := &x.runs[id]
	length, copies := int(r.length), r.flags&runCopies != 0
	var list, old spanList
	start := 0
	for n := d.number(); n > 0 && list.n < maxSpans-1; n-- {
		end, holders := d.number(), d.number()
		if end <= start || end > length {
			break
		}
		set := uint32(0)
		for ; holders > 0 && !d.bad; holders-- {
			from, plane := uint32(d.number()), d.number()
			extra := []byte(nil)
			if copies {
				extra = d.take(4 * (end - start))
			}
			p, known := pods[from]
			if d.bad = d.bad || !known || plane >= 32 || plane == int(Guessed); d.bad || !p.bound {
				continue
			}
			set = x.join(&list, id, set, &x.pods[p.to.ID], plane, end-start)
			for pos := start; pos < end && copies && len(x.copies) < x.maxCopies; pos++ {
				if k := binary.LittleEndian.Uint32(extra[4*(pos-start):]); k > 0 {
					x.copies[x.copyKey(r, pos, p.to.ID, plane)] = k
				}
			}
		}
		list.add(x, end, set)
		start = end
	}
	whole := start == length && !d.bad
	if start < length {
		list.add(x, length, 0)
	}
	x.load(r, &old)
	r.version.Add(1)
	x.drop(&old)
	x.save(r, &list)
	r.version.Add(1)
	x.trim(id)
	return whole
}

// join adds a holder to the set of a span that comes behind others of its run.
func (x *Index) join(before *spanList, id, set uint32, s *pod, plane, blocks int) uint32 {
	has := x.sets.planesOf(set, s.ID)
	in := has&exactPlanes != 0
	for _, sp := range before.s[:before.n] {
		in = in || x.sets.planesOf(sp.set(), s.ID)&exactPlanes != 0
	}
	if has>>plane&1 != 0 || !in && !x.enter(id, s) {
		return set
	}
	joined, ok := x.sets.with(set, plane, s.ID)
	if !ok {
		return set
	}
	if set != 0 && x.sets.record(set)[setRefs] == 0 {
		x.sets.discard(set)
	}
	if has&exactPlanes == 0 {
		s.blocks += blocks
	}
	return joined
}

func attention(n int) events.Attention { return events.Attention(min(n, int(events.OtherAttention))) }
