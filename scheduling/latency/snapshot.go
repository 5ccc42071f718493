package latency

import (
	"encoding/json"
	"fmt"
	"math"
)

// snapshotVersion is of the form of snapshots. Another one is refused.
const snapshotVersion = 1

type snapshot struct {
	Version int             `json:"version"`
	Classes []classSnapshot `json:"classes"`
}

type classSnapshot struct {
	Name  string                `json:"name"`
	Times [targets]timeSnapshot `json:"times"` // to the first token, between tokens
}

// timeSnapshot is what is learned of a time. Statistics have no Bias and Windows.
type timeSnapshot struct {
	Prior   vector             `json:"prior"`
	Moments moments            `json:"moments"`
	Bias    mean               `json:"bias,omitzero"`
	Windows [regimes][]float64 `json:"windows,omitzero"` // oldest first
	Seen    [regimes]int       `json:"seen,omitzero"`
	Miss    [regimes]float64   `json:"miss,omitzero"`
}

// Snapshot returns all that was learned of classes, for Restore after a restart: some ten kilobytes of JSON for each. What was
// learned of single endpoints, and from other replicas, is not in it.
func (m *Model) Snapshot() []byte { return m.snapshot(true) }

// Statistics returns the part of what was learned here that other replicas can Merge: about four kilobytes of JSON for each
// class.
func (m *Model) Statistics() []byte { return m.snapshot(false) }

func (m *Model) snapshot(whole bool) []byte {
	s := snapshot{Version: snapshotVersion}
	for _, k := range *m.classes.Load() {
		s.Classes = append(s.Classes, k.snapshot(whole))
	}
	data, _ := json.Marshal(s) // fails for numbers that are not finite, of which there are none
	return data
}

func (k *class) snapshot(whole bool) classSnapshot {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := classSnapshot{Name: k.name}
	for target := range s.Times {
		l, t := &k.learn[target], &s.Times[target]
		t.Prior, t.Moments = k.prior[target], l.own
		if !whole {
			continue
		}
		t.Bias, t.Miss = l.bias, l.miss
		for i, w := range l.windows {
			t.Windows[i] = append(append(t.Windows[i], w.ring[w.next:]...), w.ring[:w.next]...)
			t.Seen[i] = w.seen
		}
	}
	return s
}

// Restore makes the model know what a Snapshot knew, in place of what it has learned of the same classes. If there is anything
// wrong with the snapshot it says what, and nothing changes.
func (m *Model) Restore(data []byte) error {
	s, err := parse(data)
	if err == nil {
		err = s.whole(m.o.Quantile)
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	m.each(s, func(k *class, s *classSnapshot) {
		for target := range s.Times {
			t := &s.Times[target]
			l := &k.learn[target]
			l.own, l.w, l.bias, l.miss = t.Moments, k.prior[target], t.Bias, t.Miss
			for i, values := range t.Windows {
				l.windows[i] = restoredWindow(values, t.Seen[i])
			}
		}
	})
	return nil
}

// Merge takes in what another replica has learned: its Statistics or its Snapshot. What the same replica, by its name, said
// before is replaced, so that it does not matter how often or in which order replicas are merged. If there is anything wrong
// with the data it says what, and nothing changes.
func (m *Model) Merge(replica string, data []byte) error {
	s, err := parse(data)
	if err != nil {
		return fmt.Errorf("merge replica %q: %w", replica, err)
	}
	m.each(s, func(k *class, s *classSnapshot) {
		k.merged[replica] = &[targets]moments{s.Times[ttft].Moments, s.Times[tpot].Moments}
	})
	return nil
}

// Forget drops what was merged of a replica.
func (m *Model) Forget(replica string) {
	for _, k := range *m.classes.Load() {
		k.mu.Lock()
		if k.merged[replica] != nil {
			delete(k.merged, replica)
			k.refit()
		}
		k.mu.Unlock()
	}
}

// each calls do with each class of a snapshot, locked, and publishes what it did. Classes beyond the maximum are left out.
func (m *Model) each(s *snapshot, do func(*class, *classSnapshot)) {
	for i := range s.Classes {
		from := &s.Classes[i]
		at := m.named(from.Name, func() [targets]vector { return [targets]vector{from.Times[ttft].Prior, from.Times[tpot].Prior} })
		k := (*m.classes.Load())[at]
		if k.name != from.Name {
			continue
		}
		k.mu.Lock()
		do(k, from)
		k.refit()
		k.mu.Unlock()
	}
}

func (k *class) refit() {
	for target := range k.learn {
		k.fit(target, manySweeps)
		k.publish(target, 0, 1, 2)
	}
}

// parse reads a snapshot and checks what all have.
func parse(data []byte) (*snapshot, error) {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Version != snapshotVersion {
		return nil, fmt.Errorf("version %d, want %d", s.Version, snapshotVersion)
	}
	for i := range s.Classes {
		for target := range targets {
			t := &s.Classes[i].Times[target]
			path := fmt.Sprintf("classes[%d].times[%d]", i, target)
			if !t.Moments.valid() {
				return nil, fmt.Errorf("%s.moments: not those of observations", path)
			}
			for j, v := range t.Prior {
				if !(v > 1e-15 && v < 1e15) {
					return nil, fmt.Errorf("%s.prior[%d] %v: want seconds above 0", path, j, v)
				}
			}
		}
	}
	return &s, nil
}

// whole checks what a Snapshot has beside Statistics.
func (s *snapshot) whole(quantile float64) error {
	for i := range s.Classes {
		for target := range targets {
			t := &s.Classes[i].Times[target]
			path := fmt.Sprintf("classes[%d].times[%d]", i, target)
			if !(math.Abs(t.Bias.Value) <= farthest && t.Bias.N >= 0 && t.Bias.N <= mostCounted) {
				return fmt.Errorf("%s.bias %v: out of range", path, t.Bias)
			}
			for j, values := range t.Windows {
				if n := len(values); n < pseudo || n > windowSize || t.Seen[j] < 0 || n > pseudo && t.Seen[j] < n {
					return fmt.Errorf("%s.windows[%d]: %d values of %d observations, want %d to %d values", path, j, n, t.Seen[j], pseudo, windowSize)
				}
				for _, v := range values {
					if !(math.Abs(v) <= 4*farthest) {
						return fmt.Errorf("%s.windows[%d]: log ratio %v is out of range", path, j, v)
					}
				}
				if low, high := levelBounds(1 - quantile); !(t.Miss[j] >= low && t.Miss[j] <= high) {
					return fmt.Errorf("%s.miss[%d] %v: want %v to %v", path, j, t.Miss[j], low, high)
				}
			}
		}
	}
	return nil
}
