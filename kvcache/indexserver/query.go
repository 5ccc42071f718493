package indexserver

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/inferloom/inferloom/kvcache"
)

// scratch is what a query needs for a while.
type scratch struct {
	chain   []uint64
	among   []uint64
	blocks  []kvcache.Block
	matches kvcache.Matches
}

// hit is what one rank holds of a prompt, in tokens.
type hit struct {
	worker
	usable         int
	gpu, cpu, disk int // of that, in one tier alone
	remote         int
	throughCPU     int // of that, on the GPU or in the host's memory
}

// keepBlocks is how long a prompt's chain may be for its memory to be kept for other queries.
const keepBlocks = 1 << 16

func (s *Server) query(w http.ResponseWriter, r *http.Request) {
	var q query
	if !decode(w, r, s.o.MaxBodyBytes, &q) {
		return
	}
	s.respond(w, &q, func(space *kvcache.Space, x *scratch) {
		x.chain = space.Append(x.chain[:0], q.Tokens, nil)
	})
}

func (s *Server) queryByHash(w http.ResponseWriter, r *http.Request) {
	var q query
	if !decode(w, r, s.o.MaxBodyBytes, &q) {
		return
	}
	if q.dialect() == dynamo && q.Salt != nil {
		fail(w, http.StatusBadRequest, errors.New("cache_salt: hashes are of salted blocks or they are not; leave it out"))
		return
	}
	hashes := q.Rolling
	for _, other := range []hashes64{q.Older, q.Local} {
		if len(hashes) == 0 {
			hashes = other
		}
	}
	s.respond(w, &q, func(_ *kvcache.Space, x *scratch) {
		x.chain = s.o.Index.Resolve(x.chain[:0], hashes)
	})
}

// respond matches and answers. chain makes the request hashes for a space.
func (s *Server) respond(w http.ResponseWriter, q *query, chain func(*kvcache.Space, *scratch)) {
	if errs := q.check(); len(errs) > 0 {
		fail(w, http.StatusBadRequest, errors.Join(errs...))
		return
	}
	workers := s.asked(q)
	if len(workers) == 0 && q.dialect() == dynamo {
		fail(w, http.StatusNotFound, fmt.Errorf("no engine is registered for model %q in %q", q.model(), q.tenant()))
		return
	}
	x := s.scratch.Get().(*scratch)
	defer func() {
		if cap(x.chain) <= keepBlocks {
			s.scratch.Put(x)
		}
	}()
	hits := make([]hit, 0, len(workers))
	for len(workers) > 0 { // those of one block size at a time
		size := workers[0].BlockTokens
		n := 1
		for n < len(workers) && workers[n].BlockTokens == size {
			n++
		}
		space := q.space(size)
		chain(&space, x)
		hits = s.match(hits, workers[:n], x)
		workers = workers[n:]
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Compare(a.Name, b.Name) })
	if q.dialect() == dynamo {
		answer(w, http.StatusOK, dynamoAnswer(hits))
	} else {
		answer(w, http.StatusOK, map[string]any{q.tenant(): mooncakeAnswer(hits)})
	}
}

func (q *query) space(blockTokens int) kvcache.Space {
	return kvcache.Space{Model: q.model(), Adapter: q.Adapter, Salt: q.salt(), BlockTokens: blockTokens}
}

// asked returns the engines that a query is about, by block size.
func (s *Server) asked(q *query) []worker {
	var workers []worker
	for _, k := range s.engines() {
		e := &k.Engine
		k.BlockTokens = cmp.Or(e.BlockTokens, q.BlockSize)
		if e.Store || e.Model != q.model() || k.tenant != q.tenant() || q.Instance != "" && k.instance != string(q.Instance) ||
			q.BlockSize > 0 && k.BlockTokens != q.BlockSize || q.Rank != nil && e.Rank != q.rank() || k.BlockTokens == 0 {
			continue
		}
		workers = append(workers, k)
	}
	slices.SortStableFunc(workers, func(a, b worker) int { return cmp.Compare(a.BlockTokens, b.BlockTokens) })
	return workers
}

// match appends what workers of one block size hold of the chain.
func (s *Server) match(hits []hit, workers []worker, x *scratch) []hit {
	clear(x.among)
	for _, k := range workers {
		for len(x.among) <= int(k.Pod.ID/64) {
			x.among = append(x.among, 0)
		}
		x.among[k.Pod.ID/64] |= 1 << (k.Pod.ID % 64)
	}
	m := &x.matches
	size := workers[0].BlockTokens
	s.o.Index.Match(x.chain, size, x.among, m)
	for _, k := range workers {
		id := k.Pod.ID
		h := hit{worker: k}
		if int(id) < len(m.Blocks) {
			usable := m.Blocks[id]
			alone := func(t kvcache.Tier) int { return int(min(m.Depths[t][id], usable)) * size }
			h.usable, h.throughCPU = int(usable)*size, int(usable)*size
			h.gpu, h.cpu, h.disk, h.remote = alone(kvcache.GPU), alone(kvcache.CPU), alone(kvcache.Disk), alone(kvcache.Remote)
			if m.Tiers[kvcache.GPU][id]+m.Tiers[kvcache.CPU][id] < usable {
				h.throughCPU = s.within(k.Pod, x.chain[:usable], x) * size
			}
		}
		hits = append(hits, h)
	}
	return hits
}

// within returns how many leading blocks a pod has on the GPU or in the host's memory.
func (s *Server) within(p kvcache.Pod, chain []uint64, x *scratch) int {
	x.blocks = s.o.Index.Inspect(p, chain, x.blocks[:0])
	for i, b := range x.blocks {
		if b.Held&(1<<kvcache.GPU|1<<kvcache.CPU) == 0 {
			return i
		}
	}
	return len(x.blocks)
}

func mooncakeAnswer(hits []hit) map[string]any {
	type instance struct {
		Longest int            `json:"longest_matched"`
		GPU     int            `json:"GPU"`
		DP      map[string]int `json:"DP"`
		CPU     int            `json:"CPU"`
		Disk    int            `json:"DISK"`
		Remote  int            `json:"REMOTE,omitempty"`
	}
	out := map[string]any{}
	for _, h := range hits {
		i, _ := out[h.instance].(*instance)
		if i == nil {
			i = &instance{DP: map[string]int{}}
			out[h.instance] = i
		}
		i.Longest = max(i.Longest, h.usable)
		i.GPU, i.CPU, i.Disk, i.Remote = max(i.GPU, h.gpu), max(i.CPU, h.cpu), max(i.Disk, h.disk), max(i.Remote, h.remote)
		i.DP[strconv.Itoa(h.Rank)] = h.usable
	}
	return out
}

func dynamoAnswer(hits []hit) any {
	type instance struct {
		Longest int            `json:"longest_matched"`
		GPU     int            `json:"gpu"`
		DP      map[string]int `json:"dp"`
		CPU     int            `json:"cpu"`
		Disk    int            `json:"disk"`
	}
	out := struct {
		Scores      map[string]map[string]int `json:"scores"`
		Frequencies []int                     `json:"frequencies"` // how many ranks have the i-th block on their GPU
		Instances   map[string]*instance      `json:"instances"`
	}{map[string]map[string]int{}, []int{}, map[string]*instance{}}
	for _, h := range hits {
		i := out.Instances[h.instance]
		if i == nil {
			i = &instance{DP: map[string]int{}}
			out.Instances[h.instance] = i
			out.Scores[h.instance] = i.DP // the same numbers under their older name
		}
		i.DP[strconv.Itoa(h.Rank)] = h.gpu
		i.GPU, i.CPU, i.Disk = max(i.GPU, h.gpu), max(i.CPU, h.throughCPU), max(i.Disk, h.usable)
		i.Longest = max(i.Longest, h.usable)
		for block := range h.gpu / h.BlockTokens {
			if block == len(out.Frequencies) {
				out.Frequencies = append(out.Frequencies, 0)
			}
			out.Frequencies[block]++
		}
	}
	return out
}
