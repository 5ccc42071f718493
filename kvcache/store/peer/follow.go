package peer

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// resolveEvery is how often Follow looks.
const resolveEvery = 10 * time.Second

// Follow keeps the members those that a name resolves to, such as the pods behind a headless Kubernetes service, until the
// context ends. The address is "name:port". While the name cannot be resolved the members stay.
func (g *Group) Follow(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: want name:port", address)
	}
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		if hosts, err := net.DefaultResolver.LookupHost(ctx, host); err == nil {
			var members []string
			for _, h := range hosts {
				members = append(members, net.JoinHostPort(h, port))
			}
			if slices.Sort(members); !slices.Equal(members, g.Members()) {
				if err := g.Set(members...); err != nil {
					return err
				}
			}
		} else if ctx.Err() == nil {
			g.o.Logger.Warn("resolving the peers", "name", host, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
