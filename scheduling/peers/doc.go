// Package peers lets replicas of a gateway share what each would otherwise know alone: what they have in flight on each
// endpoint, what each tenant was served, which prompts went where, and how much of the fleet's capacity each may use. It is the
// one user of hashicorp/memberlist, which keeps membership, detects failures and encrypts.
//
//	p, err := peers.Start(ctx, peers.Options{
//		Bind: ":7946", Join: []string{"gateway-0.gateways:7946"}, Keys: [][]byte{key},
//		Pool: pool, Index: index, Latency: model, Fairness: fairness, Capacity: capacity,
//	})
//	defer p.Close()
//	producer := &prefix.Producer{Index: index, Routed: p.Routed}
//
// Every part is optional but the Pool. What is shared:
//
//   - In-flight load: each replica tells its own ledger, and the sum of the others' becomes Pool.SetRemote's column.
//   - Routes: the block hashes of prompts and where they went, into the others' prefix indexes. A replica that joins is told the
//     latest of them, so that it does not start cold.
//   - Service: what each tenant was served (Fairness) is charged to it at the other replicas too, so that fair shares are of the
//     whole and not of each replica.
//   - Capacity: a replica owns an equal share of the fleet. What it does not use it lends, for as long as a lease lasts, to
//     replicas where the tenants' weights and backlogs say that more belongs.
//   - Latency statistics, so that a replica predicts what others have observed.
//
// # How it works
//
// Everything is a state of its origin: a gauge, or a counter that only grows. A message carries absolute values, never
// differences, with the origin's incarnation and a sequence number; the latest wins, and what is lost is repeated within
// Options.Refresh. So messages may be lost, doubled or reordered, and merging is commutative, associative and idempotent. They
// go straight to each peer as UDP packets of at most 1,200 bytes, a few tens of milliseconds after a change, and once in a while
// whole over TCP (memberlist's push/pull).
//
// A lease is safe without agreement: a lender counts what it lent as gone for twice the time that the borrower may use it, so the
// shares of all never sum up to more than one while packets take less than a lease's time.
//
// # Guarantees
//
//   - What a replica said counts for nothing once it has not been heard for Options.Expiry, so a dead one's load goes away by
//     itself, and no count goes below zero.
//   - In a partition leases run out and each replica falls back to the share it owns. The share of a replica that is gone without
//     having left is kept free for Options.Reclaim, because it may be on the other side.
//   - Memory is bounded: by the pool, Options.MaxTenants, Options.MaxPeers and the ring of routes. Messages that make no sense
//     are dropped.
//   - An idle replica sends and wakes up once per Refresh, besides memberlist's probes.
//
// # Caveats
//
// Load is seen some ten milliseconds late, so replicas that pick at the same moment can still meet on one endpoint. Service of
// one interval can be off by what the other replicas served in it. A lease's time must be well above the network's delay. Names
// of endpoints and tenants travel as 64-bit hashes. Without Keys anyone who reaches the port can join.
package peers
