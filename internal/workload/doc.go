// Package workload has the requests of an LLM workload as values: when each arrives, what its prompt is made of, how long
// its answer is, which conversation it belongs to. A driver sends them over HTTP, a simulator feeds them to engines.
//
// A [Source] is a sequence of requests in order of arrival. They are generated or read:
//
//   - [Chats] generates multi-turn chats behind shared system prompts, for ever, from a seed. [ChatOptions] say how
//     sessions arrive (see [Arrivals]), how long prompts and answers are, and who sends them.
//   - [Open] reads a trace in a format that it tells from the content: [Mooncake], [Azure], [BurstGPT], [ServeGen], or
//     what a gateway has [Recorded].
//   - [Merge], [Scale], [Window], [Limit], [Repeat] and [Map] make a source of others.
//
// All are used alike:
//
//	for r, err := range source {
//		if err != nil {
//			return err
//		}
//		if r.At > end {
//			break
//		}
//		send(r)
//	}
//
// # Prompts
//
// A [Message] is a role and [Piece] values: the first so many tokens of a text that is named by a number. The text is a
// pure function of that number, so prompts share a prefix exactly as far as their pieces agree, and nobody holds or
// stores the text of a workload. It is words of three letters with a space behind each, four bytes a token, in which
// nothing needs an escape in JSON.
//
// A turn holds the messages that it adds. What came before it (the session's earlier messages, and the answers to them)
// is for the driver to put in front, since only the driver knows the answers. Traces have no answers: each of their
// requests is a session of one turn, with its whole prompt.
//
// # Guarantees
//
//   - The same options give the same requests, and the same trace the same text, in every process.
//   - Requests come in order of At; turns of a session come in order, the last one marked. A trace that is out of order is
//     an error that names the line.
//   - Memory is that of the sessions under way, or of one line of a trace and what its reader says beside that.
//
// # Caveats
//
// Lengths are what the workload asks for. The chat template of an engine adds some tokens to each message.
package workload
