// Package selectserver lets hosts that are not written in Go use a scheduler, over HTTP: they register workers, ask where a
// request should go, reserve the place, and say when its first token came and when it ended. It relays no requests itself.
//
//   - [Server] is an http.Handler over a scheduling.Scheduler. It can be mounted below any path, behind any authentication.
//   - Server.Run ends reservations whose lease has run out.
//
// For a server of its own:
//
//	server, err := selectserver.New(selectserver.Options{Scheduler: sched})
//	...
//	go server.Run(ctx)
//	err = http.ListenAndServe("127.0.0.1:8092", server)
//
// and its host:
//
//	POST   /workers                        {"id":"w0","address":"10.0.0.1:8000","model":"llama"}
//	POST   /select                         where a request would go; nothing is reserved
//	POST   /select_and_reserve             {"model":"llama","prompt":{"tokens":[1,2,3]}}
//	       200 {"reservation":"R","worker":{"id":"w0","address":"10.0.0.1:8000"},"fallbacks":[...],...}
//	POST   /reservations                   the same at a worker of the host's choice: {"worker":"w0","model":"llama",...}
//	POST   /reservations/R/first_token     the prefill is over
//	POST   /reservations/R/tokens          {"tokens":16} more of them take up KV memory
//	POST   /reservations/R/next            the worker failed: 200 with the next one, 410 if there is none
//	DELETE /reservations/R                 the request has ended
//
// Where the scheduler has stages, an answer has the others' workers beside the primary one's, and
//
//	POST   /reservations/R/stages/prefill/next   moves the prefill alone
//	POST   /reservations/R/stages/prefill/done   says that it is over
//
// docs/embedding.md lists every path with its fields.
//
// # Guarantees
//
//   - A host that crashes leaks nothing: a reservation of which nothing was heard for its lease ends as if it had been deleted.
//     Every call about a reservation renews its lease.
//   - A call that is sent again is not charged twice: one with the id of a reservation that is held returns that reservation.
//   - A request body is bounded, unknown fields are refused, and an answer other than 2xx says in JSON what is wrong with which
//     field. All problems are reported at once.
//   - How many reservations are held is bounded.
//
// # Caveats
//
// There is no authentication: whoever reaches the server can remove workers. Workers have no lease; the host that registered
// them, or another one, removes them. Reservations live in the process and are gone when it ends, with the ledger that they
// are in.
//
// It is a package of scheduling rather than of gateway because it needs nothing of a gateway: no bodies, no streams, no
// upstreams.
package selectserver
