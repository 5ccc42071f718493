// Package remote asks a model server for the token ids of a prompt: for models whose tokenizer or chat template package
// token does not read, and to be certain of what an engine does with a request.
//
//	c, err := remote.New(remote.Options{URLs: []string{"http://render:8000"}, API: remote.Render})
//	ids, err := c.AppendChat(ctx, nil, body) // the body of a request to /v1/chat/completions
//
// A [Client] is a gateway.Tokenizer. It speaks to vLLM's render server ("vllm launch render", which needs no accelerator),
// to vLLM's /tokenize and to SGLang's. It sends the body of the request that it was given, so that whatever the engine reads
// in it (tools, documents, template arguments) counts as it would in the request itself.
//
// # Guarantees
//
//   - A call ends within Options.Timeout, whatever the servers do. Each server gets an equal share of the time left.
//   - A server that fails so many times in a row is left alone for a while (a circuit breaker for each); calls go to the
//     others, and fail at once with [ErrUnavailable] when there are none.
//   - Connections are kept, and at most so many are open to a server. Bodies of answers are bounded.
//   - What a server says is checked: ids are whole numbers of 32 bits, and at least one.
//   - Safe for concurrent use. No goroutine outlives a call.
//
// # Caveats
//
// Each call is a round trip and the server's time, which is milliseconds: put a [Client] behind what tokenizes locally, not
// in front of it. Prompts with images, audio or video are refused with [ErrMultimodal]: their ids do not tell them apart.
package remote
