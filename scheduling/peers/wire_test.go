package peers

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// tape notes records.
type tape struct{ records []any }

func (t *tape) load(r loadRecord)     { t.records = append(t.records, r) }
func (t *tape) tenant(r tenantRecord) { t.records = append(t.records, r) }
func (t *tape) lease(r leaseRecord)   { t.records = append(t.records, r) }
func (t *tape) route(r routeRecord) {
	r.hashes = append([]byte{}, r.hashes...)
	t.records = append(t.records, r)
}
func (t *tape) leave()           { t.records = append(t.records, "leave") }
func (t *tape) latency(s []byte) { t.records = append(t.records, string(s)) }

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{rapid.StringN(1, 16, maxOrigin).Draw(t, "origin"), rapid.Uint64().Draw(t, "incarnation"), rapid.Uint64().Draw(t, "sequence")}
		data := h.append(nil)
		var want []any
		for range rapid.IntRange(0, 5).Draw(t, "records") {
			hash := rapid.Uint64().Draw(t, "hash")
			switch rapid.IntRange(0, 6).Draw(t, "kind") {
			case 0:
				r := loadRecord{hash, rapid.Uint64Max(maxRequests).Draw(t, "a"), rapid.Uint64Max(maxTokens).Draw(t, "b"), rapid.Uint64Max(maxTokens).Draw(t, "c")}
				data, want = r.append(data), append(want, r)
			case 1:
				r := tenantRecord{hash, rapid.Uint64Max(math.MaxInt64).Draw(t, "served"), rapid.Uint64Max(math.MaxInt64).Draw(t, "queued"), rapid.Float64Range(1e-9, maxWeight).Draw(t, "w")}
				data, want = r.append(data), append(want, r)
			case 2:
				r := leaseRecord{hash, rapid.Float64Range(0, 1).Draw(t, "share"), rapid.Uint64Max(maxLease).Draw(t, "ms")}
				data, want = r.append(data), append(want, r)
			case 3:
				r := routeRecord{hash, rapid.Uint64().Draw(t, "id"), rapid.Uint64Max(100).Draw(t, "offset"), rapid.Bool().Draw(t, "last"), make([]byte, 8*rapid.IntRange(0, 20).Draw(t, "n"))}
				data, want = r.append(data), append(want, r)
			case 4:
				s := rapid.SliceOf(rapid.Byte()).Draw(t, "statistics")
				data, want = appendLatency(data, s), append(want, string(s))
			case 5:
				data, want = appendLeave(data), append(want, "leave")
			case 6: // of a version to come
				data = appendRecord(data, 99, func(dst []byte) []byte { return append(dst, 1, 2, 3) })
			}
		}
		got, records, err := decodeHeader(data)
		require.NoError(t, err)
		require.Equal(t, h, got)
		var all tape
		require.NoError(t, decodeRecords(records, &all))
		require.Equal(t, want, all.records)
	})
}

func TestMessagesThatMakeNoSense(t *testing.T) {
	h := (&header{"a", 1, 2}).append(nil)
	for name, data := range map[string][]byte{
		"empty":             {},
		"another version":   {9, 1, 'a', 1, 1},
		"no origin":         {version, 0, 1, 1},
		"a long origin":     append([]byte{version, 200}, make([]byte, 300)...),
		"a short origin":    {version, 9, 'a'},
		"an endless count":  append(append([]byte{}, h[:3]...), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"cut off":           append(append([]byte{}, h...), byte(kindLoad), 9, 0),
		"cut in a record":   append(append([]byte{}, h...), byte(kindLoad), 9, 0, 0, 1),
		"a short load":      append(append([]byte{}, h...), byte(kindLoad), 1, 0, 0, 1),
		"many requests":     (&loadRecord{1, 1 << 60, 0, 0}).append(h[:len(h):len(h)]),
		"a negative weight": (&tenantRecord{1, 0, 0, -1}).append(h[:len(h):len(h)]),
		"no weight":         (&tenantRecord{1, 0, 0, math.NaN()}).append(h[:len(h):len(h)]),
		"a large share":     (&leaseRecord{1, 2, 1}).append(h[:len(h):len(h)]),
		"a long lease":      (&leaseRecord{1, 1, 1 << 40}).append(h[:len(h):len(h)]),
		"half a hash":       (&routeRecord{1, 1, 0, true, make([]byte, 9)}).append(h[:len(h):len(h)]),
		"a far piece":       (&routeRecord{1, 1, 1 << 40, true, make([]byte, 8)}).append(h[:len(h):len(h)]),
	} {
		_, records, err := decodeHeader(data)
		if err == nil {
			err = decodeRecords(records, &tape{})
		}
		require.ErrorIs(t, err, errMessage, name)
	}
}

func FuzzDecode(f *testing.F) {
	data := (&header{"a", 1, 2}).append(nil)
	data = (&loadRecord{1, 2, 3, 4}).append(data)
	data = (&tenantRecord{1, 2, 3, 4}).append(data)
	data = (&leaseRecord{1, .5, 3}).append(data)
	data = (&routeRecord{1, 2, 0, true, make([]byte, 16)}).append(data)
	f.Add(appendLatency(data, []byte("{}")))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, records, err := decodeHeader(data)
		if err != nil {
			return
		}
		require.NotEmpty(t, h.origin)
		_ = decodeRecords(records, &tape{})
	})
}

// Pieces make up what was sent in whatever order they come; if some are lost or doubled, only beginnings of routes come out.
func TestRoutesSurviveTheNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r routes
		sent := map[uint64][]uint64{}
		n := rapid.IntRange(1, 20).Draw(t, "routes")
		for i := range n {
			chain := make([]uint64, rapid.IntRange(1, 600).Draw(t, "blocks"))
			for j := range chain {
				chain[j] = uint64(i)<<32 | uint64(j)
			}
			r.add(uint64(i), chain)
			sent[uint64(i)] = chain
		}
		var pieces []routeRecord
		require.Equal(t, uint64(n), r.pieces(0, func(p *routeRecord) bool {
			require.LessOrEqual(t, len(p.append(nil)), maxPacket-maxOrigin-24)
			copied := *p
			copied.hashes = append([]byte{}, p.hashes...)
			pieces = append(pieces, copied)
			return true
		}))
		got := map[uint64][]uint64{}
		var a assembly
		done := func(endpoint uint64, chain []uint64) { got[endpoint] = append([]uint64{}, chain...) }
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		random.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		for i := range pieces {
			a.add(&pieces[i], done)
		}
		require.Equal(t, sent, got)
		require.Empty(t, a.partial)

		var troubled []routeRecord
		for _, p := range pieces {
			for range random.IntN(3) {
				troubled = append(troubled, p)
			}
		}
		a = assembly{}
		for i := range troubled {
			a.add(&troubled[i], func(endpoint uint64, chain []uint64) {
				require.Equal(t, sent[endpoint][:len(chain)], chain)
			})
		}
	})
}

func TestRingKeepsTheLatest(t *testing.T) {
	var r routes
	for i := range uint64(routesKept + 10) {
		r.add(i, []uint64{i})
	}
	var got []uint64
	next := r.pieces(0, func(p *routeRecord) bool {
		got = append(got, binary.LittleEndian.Uint64(p.hashes))
		return len(got) < 5
	})
	require.Equal(t, []uint64{10, 11, 12, 13, 14}, got)
	require.Equal(t, uint64(14), next, "what was not taken comes again")
}
