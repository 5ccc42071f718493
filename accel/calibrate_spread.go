package accel

import (
	"cmp"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Fit makes a calibration of measurements alone. Intervals come from cross-validation: each measurement is estimated by a fit
// that has not seen its configuration (the deployment with its prompt and answer, at any load), and in turn neither its model in that
// precision on the pair of engine and system, nor the pair at all, so that intervals are known for each [Evidence]. Points
// are refused as [Calibration.Calibrate] does.
func Fit(points []Point) (*Calibration, error) {
	start := Uncalibrated()
	rows, err := start.rows(points)
	if err != nil {
		return nil, err
	}
	c := start.fitted(rows)
	var tpot, ttft scores
	for _, hold := range []struct {
		by    func(*row) string
		knows []Evidence
		folds int
	}{
		{(*row).configuration, []Evidence{DeploymentMeasured, ModelMeasured}, 16},
		{func(r *row) string { return r.keys[levelQuantised].text() }, []Evidence{EngineMeasured}, 8},
		{func(r *row) string { return r.keys[levelPair].text() }, []Evidence{NoEvidence}, 8},
	} {
		for _, fold := range folds(rows, hold.by, hold.folds) {
			part := start.fitted(fold.rest)
			for _, r := range fold.held {
				e := part.of(r)
				if slices.Contains(hold.knows, e.Evidence) {
					tpot.add(e.Evidence, r, r.tpot, e.TPOT.Value.Seconds())
					ttft.add(e.Evidence, r, r.ttft, e.TTFT.Value.Seconds())
				}
			}
		}
	}
	c.tpot.spreads, c.ttft.spreads = tpot.spreads(), ttft.spreads()
	return c, nil
}

// of estimates a row.
func (c *Calibration) of(r *row) Estimate {
	p := r.prepared
	c.resolve(&p, &r.keys)
	var e Estimate
	p.closed(&e, r.workload)
	return e
}

// configuration is what a measurement is of, at whatever concurrency. How often attention is replicated is not told
// apart.
func (r *row) configuration() string {
	k := r.keys[levelDeployment]
	k.cut.dp = 0
	return k.text() + " " + strconv.Itoa(r.workload.InputTokens) + " " + strconv.Itoa(r.workload.OutputTokens)
}

type fold struct{ held, rest []*row }

// folds splits rows so that those of a key stay together, into a number of parts that keys are spread over evenly.
func folds(rows []*row, key func(*row) string, parts int) []fold {
	held, keys := map[string]int{}, make([]string, len(rows))
	for i, r := range rows {
		keys[i] = key(r)
		held[keys[i]] = 0
	}
	// In the order of their hashes, so that neighbours in name do not stay together.
	hash := func(k string) uint64 {
		h := fnv.New64a()
		h.Write([]byte(k))
		return h.Sum64()
	}
	for i, k := range slices.SortedFunc(maps.Keys(held), func(a, b string) int {
		return cmp.Or(cmp.Compare(hash(a), hash(b)), cmp.Compare(a, b))
	}) {
		held[k] = i % parts
	}
	out := make([]fold, min(parts, len(held)))
	for j, r := range rows {
		for i := range out {
			if held[keys[j]] == i {
				out[i].held = append(out[i].held, r)
			} else {
				out[i].rest = append(out[i].rest, r)
			}
		}
	}
	return slices.DeleteFunc(out, func(f fold) bool { return len(f.rest) == 0 })
}

// scores are logs of measured over estimated.
type scores struct {
	all map[Evidence][]float64
	of  map[spreadKey][]float64
}

func (s *scores) add(known Evidence, r *row, measured, estimated float64) {
	if measured <= 0 {
		return
	}
	if s.all == nil {
		s.all, s.of = map[Evidence][]float64{}, map[spreadKey][]float64{}
	}
	score := math.Log(measured / estimated)
	s.all[known] = append(s.all[known], score)
	k := r.keys[levelPair]
	pair := spreadKey{known, k.engine, k.system}
	s.of[pair] = append(s.of[pair], score)
}

const (
	tail           = .05 // of measurements, on either side of an interval
	spreadShrink   = 60  // a pair's own quantiles count as much as those of all pairs at so many measurements
	leastForSpread = 30
)

// spreads are the quantiles for all pairs and for each that has
// enough measurements, shrunk to those for all.
func (s *scores) spreads() map[spreadKey]spread {
	out := map[spreadKey]spread{}
	for known, all := range s.all {
		out[spreadKey{evidence: known}] = quantiles(all)
	}
	for k, own := range s.of {
		if len(own) < leastForSpread || k.evidence == NoEvidence {
			continue
		}
		of, all := quantiles(own), out[spreadKey{evidence: k.evidence}]
		w := float64(len(own)) / float64(len(own)+spreadShrink)
		out[k] = spread{w*of.low + (1-w)*all.low, w*of.high + (1-w)*all.high}
	}
	return out
}

// quantiles bound all but a tail on either side, and 0. Between two scores they are interpolated: a whole rank, as split
// conformal prediction takes it, covers too much where scores are few.
func quantiles(scores []float64) spread {
	sorted := slices.Clone(scores)
	slices.SortFunc(sorted, cmp.Compare)
	at := func(rank float64) float64 { // from 1 to n
		rank = min(max(rank, 1), float64(len(sorted)))
		i, part := math.Modf(rank)
		low := sorted[int(i)-1]
		return low + part*(sorted[min(int(i), len(sorted)-1)]-low)
	}
	n := float64(len(sorted) + 1)
	return spread{min(at(tail*n), 0), max(at((1-tail)*n), 0)}
}
