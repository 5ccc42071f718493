// Package indexserver serves a KV index over HTTP, in the APIs of Mooncake's conductor and of Dynamo's standalone indexer, so that
// routers written for these can ask it.
//
//	server, err := indexserver.New(indexserver.Options{Index: index, Follower: follower, Register: true})
//	mux.Handle("/", server)                // all of it, or
//	public.Handle("/", server.Queries())   // what routers ask
//	private.Handle("/", server.Admin())    // what operators and other replicas ask
//
//	POST /query           how much of a prompt's tokens each instance holds
//	POST /query_by_hash   the same for block hashes, as the engines publish them
//	GET  /health          200 while the process runs
//	GET  /ready           200 once every engine has been heard
//
//	POST /register        follow an engine's events
//	POST /unregister      stop, and forget what it holds
//	GET  /workers         who is followed, and how that goes
//	GET  /metrics         Prometheus' text format
//	GET  /snapshot        the index for another replica: see Fetch
//	POST /debug/why       why a prompt is not found
//
// A request that names its model "model" or "modelname" is answered as Mooncake does, one that says "model_name" as Dynamo does.
//
// # What the numbers mean
//
// All are tokens in whole blocks from the prompt's first. For Mooncake, longest_matched is the most that one data-parallel rank of
// the instance can use, DP what each rank can use, and GPU, CPU, DISK (and REMOTE, if there is any) what is in that tier alone.
// For Dynamo, gpu is what is on the GPU, cpu what is there or in the host's memory, disk what is anywhere. Cache groups of hybrid
// models count: a prefix that cannot be used is not reported.
//
// # Where this differs
//
//   - A query without block_size asks each instance in its own. With one, only instances of that size answer, as in Mooncake. An
//     engine that is followed without a block size answers those that name one.
//   - additionalsalt separates an engine's caches from others'; cache_salt of a query asks for one of them, or for the salt of
//     requests, which engines' events tell.
//   - seq_hashes and block_hashes are the engines' own hashes. Dynamo's indexer takes hashes of single blocks for block_hashes,
//     which this index does not keep.
//   - A registration that is repeated changes nothing; another one for the same rank is a conflict. Engines that restart need not
//     register again.
//   - Dynamo's peers, dumps and access logs are not there: replicas load /snapshot.
//
// There is no authentication: Admin belongs on an address that only operators and replicas reach.
package indexserver
