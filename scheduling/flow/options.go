package flow

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// What Options mean where they do not say.
const (
	DefaultMaxRequests = 5000
	DefaultMaxBytes    = 1 << 30
	DefaultTTL         = time.Minute
	DefaultMaxTenants  = 10_000
	DefaultMaxLabels   = 100
	DefaultMaxLanes    = 64
	DefaultMaxBands    = 32
)

// Options are the parameters of a Controller. The zero value, but for Gate, is strict priorities, fair shares by token cost
// among equal tenants inside each, first come first served inside a tenant, and a minute's wait at most.
type Options struct {
	// Gate is the filter of the scheduler's profiles that says who has room.
	Gate *Gate `json:"-"`

	// Bands are the priorities that differ from the defaults. A request of a priority that is not listed gets a band with the
	// defaults, until there are MaxBands; then it joins the next lower band, or the lowest.
	Bands []Band `json:"bands,omitempty"`
	// MaxBands is how many there may be; 0 means DefaultMaxBands.
	MaxBands int `json:"maxBands,omitempty"`
	// Aging relaxes strict priorities: for each band in between, a request passes those of a higher band that came more than
	// so long after it. It bounds how long anyone can starve. 0 never.
	Aging time.Duration `json:"aging,omitempty"`

	// Discipline decides among tenants; nil means FairShare.
	Discipline Discipline `json:"-"`
	// Order decides among the requests of one tenant.
	Order Order `json:"order,omitempty"`
	// Cost is what service is measured by.
	Cost Cost `json:"cost,omitzero"`

	// Tenant is the limits of each tenant that Tenants does not name.
	Tenant Tenant `json:"tenant,omitzero"`
	// Tenants are limits by tenant. With Separator, a name that ends in it is of a group: "org/" is all that begins with it.
	Tenants map[string]Tenant `json:"tenants,omitempty"`
	// Separator makes tenants a tree: with "/", "org/team/user" shares first with other organisations, then with other teams
	// of its own, and so on, four levels deep. Empty keeps them flat.
	Separator string `json:"separator,omitempty"`
	// MaxTenants bounds the tenants that are remembered; 0 means DefaultMaxTenants. Those that have nothing going on are
	// forgotten when others come; while all are busy, new ones share one place.
	MaxTenants int `json:"maxTenants,omitempty"`
	// MaxLabels is how many tenants are told apart to the Observer and in Stats, beside those in Tenants; the others are
	// "other". 0 means DefaultMaxLabels. It bounds the series that clients can make.
	MaxLabels int `json:"maxLabels,omitempty"`

	// MaxRequests and MaxBytes bound what waits in all; 0 means the defaults. A request that comes when they are reached
	// displaces the least important one, of the tenant that has most waiting for its weight, or is refused if that is itself.
	MaxRequests int   `json:"maxRequests,omitempty"`
	MaxBytes    int64 `json:"maxBytes,omitempty"`
	// TTL is how long a request may wait, beside its context's deadline; 0 means DefaultTTL, negative without bound.
	TTL time.Duration `json:"ttl,omitempty"`
	// NoEndpointTTL is how long it may wait while there is no endpoint at all that could serve it, for one to be started say.
	// 0 refuses at once.
	NoEndpointTTL time.Duration `json:"noEndpointTTL,omitempty"`
	// RefuseLate refuses a request at once if, by the pace of the last seconds, it would not be dispatched before its deadline,
	// or in time for its TTFT objective; and one that waits as soon as it is too late for that. An endpoint is taken to need as
	// long to the first token as it mostly did of late.
	RefuseLate bool `json:"refuseLate,omitempty"`
	// EvictFor is the least priority for which requests below priority 0 that run already are given up, if they agreed to it
	// (Evictable). nil gives up none.
	EvictFor *int `json:"evictFor,omitempty"`
	// MaxLanes bounds how many sets of endpoints are told apart to wait for; 0 means DefaultMaxLanes.
	MaxLanes int `json:"maxLanes,omitempty"`

	// Observer is told of each request that comes to an end here; nil means nobody.
	Observer Observer `json:"-"`
	// Clock is the time; nil means that of the machine.
	Clock Clock `json:"-"`
}

// Band is what differs for one priority.
type Band struct {
	Priority int `json:"priority"`
	// Floor is the share of service, 0 to 1, that the band gets while its requests wait, whatever waits above it.
	Floor float64 `json:"floor,omitempty"`
	// MaxRequests and MaxBytes bound what waits in the band; 0 means no bound of its own.
	MaxRequests int   `json:"maxRequests,omitempty"`
	MaxBytes    int64 `json:"maxBytes,omitempty"`
	// TTL is Options.TTL for the band; 0 means that.
	TTL time.Duration `json:"ttl,omitempty"`
}

// Tenant is what a tenant, or a group of them, may have.
type Tenant struct {
	// Weight is its share relative to others; 0 means 1.
	Weight float64 `json:"weight,omitempty"`
	// MaxInFlight bounds its requests that run; 0 means no bound. More wait, without keeping others from going.
	MaxInFlight int `json:"maxInFlight,omitempty"`
	// MaxWaiting bounds its requests that wait; 0 means no bound of its own.
	MaxWaiting int `json:"maxWaiting,omitempty"`
	// Rate is a quota in tokens of cost a second; 0 means none. Burst is how many can be saved up; 0 means what Rate gives in
	// ten seconds. A request needs a positive balance, and may overdraw it.
	Rate  float64 `json:"rate,omitempty"`
	Burst float64 `json:"burst,omitempty"`
}

// Cost is the weights of tokens, in tokens of cost: what a tenant is charged for a request. All zero means the defaults.
type Cost struct {
	// Prompt is of a prompt token that has to be prefilled, Cached of one that the endpoint has in its KV cache, Output of one
	// that is generated. The defaults are 1, 0.1 and 2.
	Prompt float64 `json:"prompt,omitempty"`
	Cached float64 `json:"cached,omitempty"`
	Output float64 `json:"output,omitempty"`
}

// Clock is a source of time.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f once, on any goroutine, after d. stop keeps it from that if it has not happened.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }
func (wallClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// tokenCost is a token of cost in the units that are counted in, fine enough for weights of a thousandth.
const tokenCost = 1024

func (o Options) withDefaults() Options {
	o.MaxRequests = cmp.Or(o.MaxRequests, DefaultMaxRequests)
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.MaxTenants = cmp.Or(o.MaxTenants, DefaultMaxTenants)
	o.MaxLabels = cmp.Or(o.MaxLabels, DefaultMaxLabels)
	o.MaxLanes = cmp.Or(o.MaxLanes, DefaultMaxLanes)
	o.MaxBands = cmp.Or(o.MaxBands, DefaultMaxBands)
	o.TTL = cmp.Or(o.TTL, DefaultTTL)
	o.Tenant = o.Tenant.withDefaults()
	if o.Discipline == nil {
		o.Discipline = FairShare{}
	}
	if o.Cost == (Cost{}) {
		o.Cost = Cost{Prompt: 1, Cached: 0.1, Output: 2}
	}
	if o.Clock == nil {
		o.Clock = wallClock{}
	}
	return o
}

func (t Tenant) withDefaults() Tenant {
	t.Weight = cmp.Or(t.Weight, 1)
	t.Burst = cmp.Or(t.Burst, 10*t.Rate)
	return t
}

type problems []error

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) notNegative(name string, v int64) {
	if v < 0 {
		p.add("%s %d: negative", name, v)
	}
}

func (p *problems) amount(name string, v float64) {
	if !(v >= 0) || math.IsInf(v, 0) {
		p.add("%s %v: want a finite number, zero or more", name, v)
	}
}

// Validate reports every problem with the options.
func (o Options) Validate() error {
	var p problems
	if o.Gate == nil {
		p.add("gate: nil")
	}
	p.notNegative("max bands", int64(o.MaxBands))
	p.notNegative("max tenants", int64(o.MaxTenants))
	p.notNegative("max labels", int64(o.MaxLabels))
	p.notNegative("max lanes", int64(o.MaxLanes))
	p.notNegative("max requests", int64(o.MaxRequests))
	p.notNegative("max bytes", o.MaxBytes)
	if o.Aging < 0 {
		p.add("aging %v: negative", o.Aging)
	}
	if o.NoEndpointTTL < 0 {
		p.add("no endpoint ttl %v: negative", o.NoEndpointTTL)
	}
	if int(o.Order) >= len(orderNames) {
		p.add("order %d: unknown", o.Order)
	}
	if v, ok := o.Discipline.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			p.add("discipline: %w", err)
		}
	}
	floors := 0.0
	var seen []int
	for i, b := range o.Bands {
		path := fmt.Sprintf("bands[%d].", i)
		if slices.Contains(seen, b.Priority) {
			p.add("%spriority %d: given twice", path, b.Priority)
		}
		seen = append(seen, b.Priority)
		p.amount(path+"floor", b.Floor)
		p.notNegative(path+"max requests", int64(b.MaxRequests))
		p.notNegative(path+"max bytes", b.MaxBytes)
		floors += b.Floor
	}
	if floors > 1 {
		p.add("bands: floors sum up to %v, want 1 at most", floors)
	}
	p.amount("cost.prompt", o.Cost.Prompt)
	p.amount("cost.cached", o.Cost.Cached)
	p.amount("cost.output", o.Cost.Output)
	p.tenant("tenant.", o.Tenant)
	for name, t := range o.Tenants {
		p.tenant(fmt.Sprintf("tenants[%q].", name), t)
	}
	return errors.Join(p...)
}

// lightest and heaviest bound weights, so that tags of tenants that wait stay comparable.
const (
	lightest = 1e-3
	heaviest = 1e6
)

func (p *problems) tenant(path string, t Tenant) {
	if t.Weight != 0 && !(t.Weight >= lightest && t.Weight <= heaviest) {
		p.add("%sweight %v: want %v to %v", path, t.Weight, lightest, heaviest)
	}
	p.notNegative(path+"max in flight", int64(t.MaxInFlight))
	p.notNegative(path+"max waiting", int64(t.MaxWaiting))
	p.amount(path+"rate", t.Rate)
	p.amount(path+"burst", t.Burst)
}

// split cuts a tenant's path into its groups, longest last, and appends them to dst.
func (o *Options) split(dst []string, tenant string) []string {
	if o.Separator == "" {
		return dst
	}
	for at := 0; len(dst) < maxDepth; {
		i := strings.Index(tenant[at:], o.Separator)
		if i < 0 {
			break
		}
		at += i + len(o.Separator)
		dst = append(dst, tenant[:at])
	}
	return dst
}

// maxDepth is how many levels of groups there are above a tenant.
const maxDepth = 3
