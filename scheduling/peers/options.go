package peers

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/scheduling"
)

// Options are the parameters of Peers; Name, Bind and Pool are required.
type Options struct {
	// Name tells this replica from the others, in at most 64 bytes: its pod's name, say.
	Name string
	// Bind is the IP:port to listen on, for UDP and TCP; port 0 takes any.
	Bind string
	// Advertise is the host:port that others reach it by; empty means Bind, and if that has no host an address of this machine.
	Advertise string
	// Join are the host:port of some other replicas. Names are looked up whenever they are tried, which is at the start and
	// whenever a replica is missing.
	Join []string
	// Keys encrypt what is sent, by AES-GCM with 16, 24 or 32 bytes; the first is used, all are understood. Empty sends in clear.
	Keys [][]byte
	// Label keeps clusters apart that can reach each other.
	Label string

	// Pool is whose in-flight load is shared.
	Pool *scheduling.Pool
	// Index learns where others sent prompts; nil does not.
	Index Index
	// Fairness, Capacity and Latency are shared if they are there.
	Fairness Fairness
	Capacity Capacity
	Latency  Latency

	// Interval is the least time between messages; 0 means 20 ms. Changes wait so long to go together.
	Interval time.Duration
	// Refresh is the time after which all is said again; 0 means a second.
	Refresh time.Duration
	// Expiry is the time after which a replica that was not heard counts for nothing; 0 means 3 Refresh.
	Expiry time.Duration
	// Lease is how long capacity is lent for; 0 means 500 ms.
	Lease time.Duration
	// Reclaim is how long the share of a replica that is gone without having left is kept free; 0 means a minute.
	Reclaim time.Duration
	// Replicas is the number of replicas that there should be: while there are fewer, shares are as if there were so many. 0 goes
	// by those that are there.
	Replicas int
	// Rejoin is the time between attempts to reach replicas that are missing; 0 means 5 s.
	Rejoin time.Duration
	// Probe is the time between memberlist's probes of members, and Sync that between its exchanges of whole states over TCP; 0
	// means 1 s and 30 s.
	Probe, Sync time.Duration
	// MaxPeers and MaxTenants bound what is remembered of others; 0 means 64 and 10,000 for each peer.
	MaxPeers, MaxTenants int

	// Logger is told of members that come and go, and of failures; nil means nobody.
	Logger *slog.Logger

	wrap func(*memberlist.Config) error // for tests: replaces the transport
}

// Index is a KV index: kvcache.Index.
type Index interface {
	Speculate(pod kvcache.Pod, chain []uint64)
}

// Fairness is who shares service among tenants. It must be safe for concurrent use.
type Fairness interface {
	// Tenants appends the tenants that this process knows of.
	Tenants(dst []Tenant) []Tenant
	// ServedElsewhere says how much more a tenant was served by the other replicas, in the unit of Tenant.Served.
	ServedElsewhere(tenant string, cost int64)
}

// Tenant is what a tenant has got and wants.
type Tenant struct {
	Name string
	// Weight is its share relative to others'.
	Weight float64
	// Served is what this process has served it since it began; it only grows, but for settlements. Queued is the cost of what
	// waits.
	Served, Queued int64
}

// Capacity is who admits requests up to a share of what the fleet can bear. It must be safe for concurrent use.
type Capacity interface {
	// Used is the share of the fleet's capacity that this process uses now, 0 to 1.
	Used() float64
	// SetShare says how much of it this process may use from now on.
	SetShare(share float64)
}

// Latency is a latency.Model.
type Latency interface {
	Statistics() []byte
	Merge(replica string, statistics []byte) error
	Forget(replica string)
}

func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(o.Interval, 20*time.Millisecond)
	o.Refresh = cmp.Or(o.Refresh, time.Second)
	o.Expiry = cmp.Or(o.Expiry, 3*o.Refresh)
	o.Lease = cmp.Or(o.Lease, 500*time.Millisecond)
	o.Reclaim = cmp.Or(o.Reclaim, time.Minute)
	o.Rejoin = cmp.Or(o.Rejoin, 5*time.Second)
	o.Probe = cmp.Or(o.Probe, time.Second)
	o.Sync = cmp.Or(o.Sync, 30*time.Second)
	o.MaxPeers = cmp.Or(o.MaxPeers, 64)
	o.MaxTenants = cmp.Or(o.MaxTenants, 10_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Validate reports every problem with the options.
func (o Options) Validate() error {
	var problems []error
	add := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if o.Name == "" || len(o.Name) > maxOrigin {
		add("name %q: want 1 to %d bytes", o.Name, maxOrigin)
	}
	if host, _, err := split(o.Bind); err != nil {
		add("bind %q: %w", o.Bind, err)
	} else if host != "" && net.ParseIP(host) == nil {
		add("bind %q: want an IP address", o.Bind)
	}
	if o.Advertise != "" {
		if _, port, err := split(o.Advertise); err != nil || port == 0 {
			add("advertise %q: want host:port", o.Advertise)
		}
	}
	for i, k := range o.Keys {
		if err := memberlist.ValidateKey(k); err != nil {
			add("keys[%d]: %d bytes, want 16, 24 or 32", i, len(k))
		}
	}
	if len(o.Label) > memberlist.LabelMaxSize {
		add("label: %d bytes, want at most %d", len(o.Label), memberlist.LabelMaxSize)
	}
	if o.Pool == nil {
		add("pool: nil")
	}
	for _, f := range []struct {
		name string
		v    int64
	}{
		{"interval", int64(o.Interval)}, {"refresh", int64(o.Refresh)}, {"expiry", int64(o.Expiry)}, {"lease", int64(o.Lease)},
		{"reclaim", int64(o.Reclaim)}, {"replicas", int64(o.Replicas)}, {"rejoin", int64(o.Rejoin)}, {"probe", int64(o.Probe)},
		{"sync", int64(o.Sync)}, {"max peers", int64(o.MaxPeers)}, {"max tenants", int64(o.MaxTenants)},
	} {
		if f.v < 0 {
			add("%s: negative", f.name)
		}
	}
	if o.Lease.Milliseconds() > maxLease {
		add("lease %v: want at most an hour", o.Lease)
	}
	return errors.Join(problems...)
}

func split(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, errors.New("want host:port")
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("port %q is not in 0..65535", text)
	}
	return host, port, nil
}

// config is memberlist's.
func (o *Options) config() (*memberlist.Config, error) {
	c := memberlist.DefaultLANConfig()
	c.Name = o.Name
	host, port, err := split(o.Bind)
	if err != nil {
		return nil, err
	}
	c.BindAddr, c.BindPort = cmp.Or(host, "0.0.0.0"), port
	c.AdvertisePort = port
	if o.Advertise != "" {
		if host, port, err = split(o.Advertise); err != nil {
			return nil, err
		}
		addresses, err := net.LookupHost(host)
		if err != nil || len(addresses) == 0 {
			return nil, fmt.Errorf("advertise %q: %w", o.Advertise, err)
		}
		c.AdvertiseAddr, c.AdvertisePort = addresses[0], port
	}
	if len(o.Keys) > 0 {
		if c.Keyring, err = memberlist.NewKeyring(o.Keys, o.Keys[0]); err != nil {
			return nil, err
		}
	}
	c.Label = o.Label
	c.ProbeInterval, c.ProbeTimeout, c.PushPullInterval = o.Probe, o.Probe/2, o.Sync
	c.TCPTimeout = 2 * time.Second
	c.Logger = slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug)
	return c, nil
}
