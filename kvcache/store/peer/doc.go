// Package peer lets replicas read and write each other's pages over gRPC.
//
// [Server] serves a store to others; the protocol is pagespb/pages.proto, for clients of any language. [Store] is one other
// replica's store, as a store.Store. [Group] is several, of which each keeps its share of the pages:
//
//	grpcServer := grpc.NewServer(grpc.Creds(creds))
//	server, err := peer.NewServer(peer.ServerOptions{Store: local})
//	server.Register(grpcServer)
//
//	group, err := peer.NewGroup(peer.GroupOptions{Dial: []grpc.DialOption{grpc.WithTransportCredentials(creds)}})
//	err = group.Set("10.0.0.1:7070", "10.0.0.2:7070")
//	go group.Follow(ctx, "kvstore.default.svc.cluster.local:7070") // instead of Set, behind a headless service
//
// Which members keep a page is decided by rendezvous hashing of its namespace and hash, so every replica finds the same ones without
// asking, and when a member comes or goes only its own share moves. A page that moved is not found until it is put again.
//
// A member that fails is left alone for a while: its pages are then absent and refused, and the group as a whole goes on.
//
// # Caveats
//
// The store that is served must not have the group as one of its levels, or requests go in circles: serve the local levels.
// Trust is the caller's to arrange, with credentials and interceptors of gRPC; there is none by default.
package peer
