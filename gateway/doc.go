// Package gateway is the contract between a data plane and the brain that decides where requests run.
//
// A data plane moves bytes: the native proxy in gateway/proxy, an Envoy external processor, a coordinator of prefill and
// decode. A brain knows endpoints, caches, queues and quotas. They meet in one method and one type:
//
//   - A [Router] is asked once a request and answers with a [Route], or with a [Rejection] that says what to tell the
//     client.
//   - A [Route] leads the request through its life. Target says where to send it and what to change on the way, Next
//     moves on to the next choice after a failure, FirstByte and Usage report progress, End closes the account.
//   - A [Lease] is what hangs on a Route at the brain's side: a reservation, a quota, a ticket, telemetry. Whoever
//     makes routes implements it.
//
// A data plane reads like this:
//
//	route, err := router.Route(ctx, req)
//	if err != nil {
//		return gateway.RejectionOf(err)
//	}
//	defer func() { route.End(err) }()
//	for {
//		if err = send(ctx, route.Target(), req); err == nil || !route.Next(err) {
//			return err
//		}
//	}
//
// # Guarantees
//
// A Route may be used from several goroutines and enforces its life cycle whatever the data plane does: the Lease sees
// FirstByte at most once, no Next after FirstByte, End exactly once if the data plane ends the route at all, and nothing
// after End. Calls of a Lease do not overlap.
//
// # Caveats
//
// A Route that is never ended leaks what its Lease holds; data planes end it in a defer. A Lease must not call its own
// Route. The Request is the data plane's: neither it nor its Body may be used after End.
package gateway
