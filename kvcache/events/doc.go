// Package events reads and writes the KV-cache events of inference engines: which blocks an engine has stored and removed.
//
// A Decoder turns the payload of one message into a Batch of Events in one vocabulary, whoever sent it: vLLM's arrays of every
// length and its tagged maps, SGLang's two eras, TensorRT-LLM's publisher, llm-d's simulator and its storage publisher. The
// shape is recognised event by event, so a fleet may run versions side by side. A Batch is reused from call to call and decoding
// allocates nothing once its arrays have grown.
//
// A Subscriber reads one engine's events over ZeroMQ (ZMTP 3.x over TCP, no C library) and hands them on in order; a Listener
// accepts engines that connect by themselves; a Publisher serves events as engines do.
//
//	sub, err := events.NewSubscriber(events.Options{Endpoint: "tcp://10.0.0.7:5557", Replay: "tcp://10.0.0.7:5558"}, sink)
//	...
//	err = sub.Run(ctx)
//
// # Guarantees
//
// An unknown event or field is passed over and counted. A known event with a wrong field is left out of the batch and counted,
// with the first reason kept: its neighbours are delivered. Only a payload that is no MessagePack, or no batch, is an error
// as a whole. Nothing panics, and the memory used is in proportion to the payload's length, whatever lengths it claims.
//
// A Subscriber delivers each batch once and in order of its sequence number. What it has missed it fetches from the replay
// endpoint, and it proves by the last batch already applied that the publisher is still the same; where it cannot, it says
// Lost, and what was learned from that publisher is no longer certain.
//
// # Caveats
//
// Hashes are compared as 64-bit numbers. Of a longer digest these are its last eight bytes, big-endian, as vLLM publishes them;
// SGLang's numbers are the first eight bytes of its digest, so numbers of different engines never mean the same block.
//
// Without a replay endpoint, a publisher that restarted and reached exactly the next expected sequence number during an
// interruption is taken for the old one.
package events
