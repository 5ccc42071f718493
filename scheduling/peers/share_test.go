package peers

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTargets(t *testing.T) {
	x, y := tenantRecord{tenant: 1, queued: 10, weight: 1}, tenantRecord{tenant: 2, queued: 10, weight: 1}
	heavy := y
	heavy.weight = 3
	idle := tenantRecord{tenant: 3, weight: 100}
	for _, row := range []struct {
		name   string
		claims claims
		want   map[string]float64
	}{
		{"nothing waits", claims{"a": {idle}, "b": nil}, nil},
		{"one replica has all of a tenant", claims{"a": {x, y}, "b": {y}, "c": {y, idle}}, map[string]float64{"a": 2. / 3, "b": 1. / 6, "c": 1. / 6}},
		{"weights", claims{"a": {x}, "b": {heavy}}, map[string]float64{"a": .25, "b": .75}},
		{"the highest weight that is said", claims{"a": {x, y}, "b": {heavy}}, map[string]float64{"a": .25 + .375, "b": .375}},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := targets(row.claims)
			require.Len(t, got, len(row.want))
			for replica, share := range row.want {
				require.InDelta(t, share, got[replica], 1e-12, replica)
			}
		})
	}
}

// Nobody offers more than it owns, and all together no more than is needed.
func TestOffers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(t, "replicas")
		owned := 1 / float64(n)
		wanted, sum := map[string]float64{}, 0.
		for i := range n {
			v := float64(rapid.IntRange(0, 5).Draw(t, "wanted"))
			wanted[fmt.Sprint(i)] = v
			sum += v
		}
		needs := 0.
		for name := range wanted {
			if sum > 0 {
				wanted[name] /= sum
			}
			needs += max(0, wanted[name]-owned)
		}
		all := 0.
		for name := range wanted {
			lent, total := offers(name, owned, wanted)
			parts := 0.
			for to, share := range lent {
				require.NotEqual(t, name, to)
				require.GreaterOrEqual(t, share, 0.)
				parts += share
			}
			require.InDelta(t, total, parts, 1e-12)
			require.LessOrEqual(t, total, owned*(1-reserve)+1e-12)
			all += total
		}
		require.LessOrEqual(t, all, needs+1e-9)
	})
}

// Whatever replicas lend each other, however late or never messages come, as long as they take less than a lease's time, the
// shares of all never sum up to more than one.
func TestLeasesNeverAddUpToMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const lease = 100 * time.Millisecond
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		n := rapid.IntRange(2, 5).Draw(t, "replicas")
		owned := 1 / float64(n)
		ledgers := make([]ledger, n)
		for i := range ledgers {
			ledgers[i] = newLedger()
		}
		type packet struct {
			at       time.Time
			from, to int
			share    float64
			sequence int
		}
		latest := map[[2]int]int{}
		var network []packet
		now := time.Unix(0, 0)
		for step := range 400 {
			now = now.Add(time.Duration(1+random.IntN(30)) * time.Millisecond)
			rest := network[:0]
			for _, p := range network {
				switch {
				case p.at.After(now):
					rest = append(rest, p)
				case p.sequence > latest[[2]int{p.from, p.to}]:
					latest[[2]int{p.from, p.to}] = p.sequence
					// It is taken in when it came, though we look later.
					ledgers[p.to].borrow(fmt.Sprint(p.from), p.share, p.at.Add(lease))
				}
			}
			network = rest
			from := random.IntN(n)
			lent := map[string]float64{}
			for to := range n {
				if to != from && random.IntN(3) > 0 {
					lent[fmt.Sprint(to)] = owned * random.Float64()
				}
			}
			ledgers[from].fit(lent, owned, now)
			for to := range n {
				share := lent[fmt.Sprint(to)]
				ledgers[from].lend(fmt.Sprint(to), share, now, lease)
				if share > 0 && random.IntN(5) > 0 {
					network = append(network, packet{now.Add(time.Duration(random.IntN(int(lease)))), from, to, share, step + 1})
				}
			}
			require.LessOrEqual(t, ledgers[from].out(now), owned+1e-9)
			sum := 0.
			for i := range ledgers {
				sum += max(0, owned-ledgers[i].out(now)+ledgers[i].in(now))
			}
			require.LessOrEqual(t, sum, 1+1e-9)
		}
		now = now.Add(time.Second)
		for i := range ledgers {
			require.Zero(t, ledgers[i].out(now))
			require.Zero(t, ledgers[i].in(now))
		}
	})
}
