// Package enginemetrics reads the metrics pages of engines into a scheduling.Pool.
//
//	scraper, err := enginemetrics.New(pool, enginemetrics.Options{})
//	go scraper.Run(ctx)
//
// It needs no configuration: pages of vLLM, SGLang, TensorRT-LLM, Triton, TGI and llama.cpp are told apart by the names in
// them ([Builtin]), whatever their version, and endpoints come and go with the pool. [Options.Sources] adds names of your
// own.
//
// The types: a [Source] says which [Selector] of a page means which metric; a [Parser] finds the sources' metrics in a page;
// a [Scraper] fetches pages and reports what they say to the pool.
//
// # Data-parallel ranks
//
// An engine with several data-parallel ranks behind one port has a series for each, told apart by a label. Endpoints that
// share an address are read once, each gets the series of its rank. An endpoint that is alone at its address stands for all
// ranks: it gets the sum of their requests and the mean of their cache usage.
//
// # Intervals
//
// A page that has changed, and one of an endpoint with requests in flight, is read again after Options.MinInterval; one that
// stays as it was half as often each time, down to Options.MaxInterval. An endpoint that does not answer is tried again at
// growing intervals. Each interval is spread by a tenth, so that endpoints which began together drift apart.
//
// # Guarantees
//
//   - Nothing that is not a finite number from 0 up reaches the pool, and what a page does not say stays absent, or ages.
//   - A page costs one pass over its bytes. Lines of other families are passed over at a glance, and parsing allocates only
//     when the adapters of an engine change.
//   - A few goroutines read all endpoints. They end with Run's context, and Run with them.
//   - One endpoint that hangs delays no other for longer than its share of a goroutine: give Options.Workers at least as many
//     as may hang at once, or shorten Options.Timeout.
//
// # Caveats
//
// vLLM's adapter metric lists the adapters with requests under way, not those that are loaded, and lists an adapter that does
// both as running and waiting; the pool is told so as it stands.
package enginemetrics
