// Package proxy is the native data plane: an http.Handler that reads an inference request, asks a [gateway.Router]
// where it runs, and relays the engine's answer as it is generated.
//
//	p, err := proxy.New(router, proxy.Options{Logger: slog.Default()})
//	if err != nil { ... }
//	defer p.Close()
//	http.ListenAndServe(":8080", p)
//
// A request passes through these steps; each has a file:
//
//  1. body.go reads the body, bounded, and gateway/api scans it.
//  2. proxy.go asks the router and turns a rejection into an answer.
//  3. forward.go sends the request to the route's target, and to the next one while the current one fails before the
//     client has seen anything.
//     transport.go is the way there.
//  4. relay.go passes the answer on, flushing after every read of a stream, and feeds the observers of gateway/api, so
//     that the route learns of the first byte and of the tokens.
//
// header.go has every rule about headers, answer.go every answer that is the proxy's own.
//
// # Guarantees
//
//   - The bytes of an answer are the engine's. Chunks are passed on as they are read; nothing waits for more.
//   - The route of a request is ended exactly once, whatever happens, and not before the proxy is done with the request.
//   - When the client leaves, the engine's request is cancelled at once, and the route's end says that it was the client.
//   - Another endpoint is tried after a broken connection or a 502, 503 or 504, until the first bytes of an answer's
//     body have been passed on, and never after. Of an answer that is not streamed these are its first 32 KiB.
//   - Clients cannot steer: control headers of the gateway and of engines are removed from what they send, forwarding
//     headers are set and not extended, and only the router's targets are dialled.
//   - A request runs on the goroutine that net/http serves it on, to the engine and back. The proxy starts none, but for
//     the moment in which a cancelled request's connection is closed.
//   - Every error has the shape that OpenAI's API gives it, and a line in the log.
//
// # Caveats
//
//   - The header of an answer goes to the client together with the first bytes of its body, so that an engine that dies
//     while it prefills can still be replaced. A client that limits the time to the header limits the time to the
//     first token.
//   - Compression is not asked for, since compressed answers could not be observed. Informational answers (1xx) and
//     upgrades are not relayed.
//   - Client credentials stay at the gateway unless Options.ForwardCredentials is set.
package proxy
