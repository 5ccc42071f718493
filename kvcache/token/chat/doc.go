// Package chat turns requests to a chat API into the token ids that an engine makes of them: the model's chat template is
// rendered, and the text encoded by its tokenizer.
//
//	tok, err := token.Load(tokenizerJSON, token.Options{})
//	o := chat.Options{Tokenizer: tok}
//	err = o.ReadConfig(tokenizerConfigJSON) // the template, and what bos_token and the like are
//	model, err := chat.New(o)
//	ids, err := model.AppendChat(ctx, nil, body) // of POST /v1/chat/completions
//
// A [Model] fits gateway.Tokenizer. It keeps what it has encoded, so that of a conversation only the last turn is encoded;
// see token.Cache.
//
// # Which engine
//
// vLLM's, whose rules for what a template is given are followed: contents as strings or lists of parts, by how the template
// reads them; arguments of tool calls as objects; tools with the fields that vLLM's own types have; reasoning under its
// names; chat_template_kwargs, documents, add_generation_prompt, continue_final_message, reasoning_effort and
// add_special_tokens as in the request. Templates see what transformers 5 shows them.
//
// # Text of users
//
// Engines render users' texts and the template into one string, and then look for special tokens in all of it: a user who
// writes <|im_end|> ends the turn. A Model does the same, as ids that differ from the engine's are of no use. With
// [Options.Separate] what users write stays text, whatever it says; that is for engines that are sent token ids.
//
// # Guarantees
//
//   - The ids are the engine's, or there is an error: for what a template or Python would refuse, and for what is not done here
//     (a part that is no text, truncation, a template in the request, an expression that the template engine lacks).
//   - [New] renders some conversations and refuses a template that uses what the template engine lacks, saying what and where.
//   - Time and memory of a rendering are bounded, whatever is in the body. A Model is safe for concurrent use.
//
// # Caveats
//
// gpt-oss has a template, but vLLM writes its prompts without it: ask the engine there. So do it for models that vLLM renders
// with code of its own (DeepSeek V3.2 and later, Mistral's own tokenizer mode). Templates that ask for the date get the one of
// [Options.Now], and the engine's clock may differ. SGLang's own treatment of requests is not followed.
package chat
