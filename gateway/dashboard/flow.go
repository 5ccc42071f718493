package dashboard

import (
	"strconv"

	"github.com/inferloom/inferloom/scheduling/flow"
)

// maxTenants and maxLanes bound what the page lists of flow control, in favour of the tenants that were served most.
const (
	maxTenants = 20
	maxLanes   = 8
)

// flowTable is who waits, for what, and who got what share.
type flowTable struct {
	Waiting int `json:"waiting"`
	// Granted and the others are of all requests since the controller was made.
	Granted uint64        `json:"granted"`
	Refused uint64        `json:"refused"`
	Bands   []flowBand    `json:"bands"`
	Lanes   []flowLane    `json:"lanes"`
	Tenants []flowTenant  `json:"tenants"`
	Reasons []flowOutcome `json:"reasons"` // of the refusals
}

type flowOutcome struct {
	Outcome string `json:"outcome"`
	Count   uint64 `json:"count"`
}

type flowBand struct {
	Priority int `json:"priority"`
	Waiting  int `json:"waiting"`
}

type flowLane struct {
	Waiting int    `json:"waiting"`
	For     string `json:"for"`
}

type flowTenant struct {
	Tenant   string   `json:"tenant"`
	Weight   optional `json:"weight"`
	Waiting  int      `json:"waiting"`
	InFlight int      `json:"in_flight"`
	Served   optional `json:"served_tokens"`
	Share    optional `json:"share"` // of the cost of all service, 0 to 1
	Limited  bool     `json:"limited,omitempty"`
}

func (d *Dashboard) flow() *flowTable {
	if d.o.Flow == nil {
		return nil
	}
	s := d.o.Flow.Stats()
	t := &flowTable{Waiting: s.Waiting, Bands: []flowBand{}, Lanes: []flowLane{}, Tenants: []flowTenant{}, Reasons: []flowOutcome{}}
	for _, o := range flow.Outcomes() {
		switch n := s.Outcomes[o]; {
		case o == flow.Granted:
			t.Granted = n
		case n > 0:
			t.Refused += n
			t.Reasons = append(t.Reasons, flowOutcome{o.String(), n})
		}
	}
	for _, b := range s.Bands {
		if b.Waiting > 0 {
			t.Bands = append(t.Bands, flowBand{b.Priority, b.Waiting})
		}
	}
	for _, l := range s.Lanes[:min(maxLanes, len(s.Lanes))] {
		t.Lanes = append(t.Lanes, flowLane{l.Waiting, waitsFor(&l)})
	}
	served := 0.0
	for _, tenant := range s.Tenants {
		served += tenant.ServedTokens
	}
	for _, tenant := range s.Tenants[:min(maxTenants, len(s.Tenants))] {
		row := flowTenant{
			Tenant: clip(tenant.Tenant, maxNameBytes), Weight: optional(tenant.Weight), Waiting: tenant.Waiting, InFlight: tenant.InFlight,
			Served: optional(tenant.ServedTokens), Share: absent, Limited: tenant.Limited,
		}
		if served > 0 {
			row.Share = optional(tenant.ServedTokens / served)
		}
		t.Tenants = append(t.Tenants, row)
	}
	return t
}

// waitsFor says in words what a lane waits for.
func waitsFor(l *flow.LaneStats) string {
	switch n := len(l.Endpoints); {
	case l.NoEndpoint:
		return "an endpoint that serves their model"
	case n == 0:
		return "their tenant's own limit"
	case n == 1:
		return "room on " + clip(l.Endpoints[0], maxNameBytes)
	default:
		return "room on one of " + strconv.Itoa(n) + " endpoints"
	}
}
