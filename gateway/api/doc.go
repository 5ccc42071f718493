// Package api reads and edits the bodies of inference requests and watches the bodies of their answers, as bytes.
//
// A gateway must know which model a request names, how long its answer may grow and what its prompt is, and must
// change almost nothing. So a request body is scanned once, in place: [Request] holds the few values that decide
// where a request runs and the byte spans of the long ones, and the bytes go on to the engine as they came. What must
// change (the model of a canary, a field that a KV connector adds) is an [Edit], applied by [Splice].
//
//	var req api.Request                    // reusable: Parse resets it
//	if err := req.Parse(api.Chat, body); err != nil {
//		apiErr := err.(*api.Error)         // status and OpenAI-shaped body
//	}
//	use(req.Model, req.PromptBytes())
//	body = api.Splice(nil, body, []api.Edit{req.SetModel("llama-canary")})
//
// Answers are relayed, not parsed. [StreamObserver] is fed the chunks of a server-sent-event stream, cut anywhere,
// and [BodyObserver] those of a JSON body; both find the token counts that the engine reports ([Usage]) in bounded
// memory while the bytes pass by.
//
// # Guarantees
//
//   - Parse accepts a body if and only if encoding/json accepts it as an object, with two exceptions that both reject
//     more: a field that is read here may appear only once (two values for "model" could be routed by one and served
//     by the other), and nesting is at most [MaxDepth] deep.
//   - Scanning, observing and splicing into a large enough buffer do not allocate. A string value (model, user,
//     cache salt) is allocated when it differs from the one that the reused Request held before.
//   - Observers never fail: what they cannot read they skip, and they say so by reporting no count.
//
// # Caveats
//
//   - Spans hold JSON text: escapes are not resolved. Equal prompts that were escaped differently have different bytes.
//   - A Request refers to the body it was parsed from and is valid as long as the body is. It is not safe for
//     concurrent mutation; reading it from several goroutines is fine.
package api
