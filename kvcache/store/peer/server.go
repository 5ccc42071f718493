package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/internal/frame"
	"github.com/inferloom/inferloom/kvcache/store/peer/pagespb"
)

// ServerOptions are the parameters of a Server; Store is required.
type ServerOptions struct {
	Store store.Store
	// MaxPageBytes bounds a page; 0 means DefaultMaxPageBytes.
	MaxPageBytes int
	// MaxPin bounds how long a peer may pin a page; 0 means a minute.
	MaxPin time.Duration
	// Allow decides whether a caller may use a namespace, empty where it wants to list them all; its error is what the caller is told. Nil allows everything.
	Allow func(ctx context.Context, namespace string) error
}

// Server serves a store to peers.
type Server struct {
	pagespb.UnimplementedPagesServer
	o ServerOptions
}

// NewServer makes a Server.
func NewServer(o ServerOptions) (*Server, error) {
	var problems []error
	if o.Store == nil {
		problems = append(problems, errors.New("store: nil"))
	}
	if o.MaxPageBytes < 0 {
		problems = append(problems, fmt.Errorf("max page bytes %d: negative", o.MaxPageBytes))
	}
	if o.MaxPin < 0 {
		problems = append(problems, fmt.Errorf("max pin %v: negative", o.MaxPin))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if o.MaxPageBytes == 0 {
		o.MaxPageBytes = DefaultMaxPageBytes
	}
	if o.MaxPin == 0 {
		o.MaxPin = time.Minute
	}
	if o.Allow == nil {
		o.Allow = func(context.Context, string) error { return nil }
	}
	return &Server{o: o}, nil
}

// Register makes a gRPC server serve the store.
func (s *Server) Register(to grpc.ServiceRegistrar) { pagespb.RegisterPagesServer(to, s) }

// key reads a key that the caller may use.
func (s *Server) key(ctx context.Context, k *pagespb.Key) (store.Key, error) {
	key := keyOf(k)
	if err := key.Validate(); err != nil {
		return key, err
	}
	return key, s.o.Allow(ctx, key.Namespace)
}

// Put implements pagespb.PagesServer.
func (s *Server) Put(stream grpc.ClientStreamingServer[pagespb.PutRequest, pagespb.PutReply]) error {
	if err := s.put(stream); err != nil {
		return answer(err)
	}
	return stream.SendAndClose(&pagespb.PutReply{})
}

func (s *Server) put(stream grpc.ClientStreamingServer[pagespb.PutRequest, pagespb.PutReply]) error {
	ctx := stream.Context()
	m, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return status.Error(codes.InvalidArgument, "no message")
	}
	if err != nil {
		return err
	}
	key, err := s.key(ctx, m.Key)
	if err != nil {
		return err
	}
	header := m.Header
	if err := checkHeader(header, s.o.MaxPageBytes); err != nil {
		return err
	}
	attr := attrOf(header.Attr)
	if err := attr.Validate(); err != nil {
		return err
	}
	page, err := store.Create(ctx, s.o.Store, key, header.Size, attr)
	if err != nil {
		return err
	}
	defer page.Abort()
	sum := uint32(0)
	for {
		if _, err := page.Write(m.Bytes); err != nil {
			return err
		}
		sum = frame.Extend(sum, m.Bytes)
		if m, err = stream.Recv(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
	}
	if sum != header.Checksum {
		return status.Errorf(codes.DataLoss, "checksum is %08x, header.checksum %08x", sum, header.Checksum)
	}
	return page.Commit(ctx)
}

// Get implements pagespb.PagesServer.
func (s *Server) Get(r *pagespb.GetRequest, stream grpc.ServerStreamingServer[pagespb.GetReply]) error {
	ctx := stream.Context()
	key, err := s.key(ctx, r.Key)
	if err != nil {
		return answer(err)
	}
	page, err := s.o.Store.Get(ctx, key)
	if err != nil {
		return answer(err)
	}
	defer page.Release()
	rest := page.Bytes()
	m := &pagespb.GetReply{Header: &pagespb.Header{Attr: attrTo(page.Attr()), Size: int64(len(rest)), Checksum: frame.Checksum(rest)}}
	for {
		n := min(len(rest), chunkBytes)
		m.Bytes, rest = rest[:n], rest[n:]
		if err := stream.Send(m); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
		m = &pagespb.GetReply{}
	}
}

// maxKeys is how many keys a request may have.
const maxKeys = 10_000

func (s *Server) keys(ctx context.Context, ks []*pagespb.Key) ([]store.Key, error) {
	if len(ks) > maxKeys {
		return nil, status.Errorf(codes.InvalidArgument, "%d keys: at most %d", len(ks), maxKeys)
	}
	keys := make([]store.Key, len(ks))
	for i, k := range ks {
		var err error
		if keys[i], err = s.key(ctx, k); err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
	}
	return keys, nil
}

// Stat implements pagespb.PagesServer.
func (s *Server) Stat(ctx context.Context, r *pagespb.StatRequest) (*pagespb.StatReply, error) {
	keys, err := s.keys(ctx, r.Keys)
	if err != nil {
		return nil, answer(err)
	}
	infos, errs := make([]store.Info, len(keys)), make([]error, len(keys))
	store.StatBatch(ctx, s.o.Store, keys, infos, errs)
	reply := &pagespb.StatReply{Infos: make([]*pagespb.StatReply_Info, len(keys))}
	for i, info := range infos {
		one := &pagespb.StatReply_Info{}
		switch err := errs[i]; {
		case err == nil:
			one.Found, one.Attr, one.Size, one.Level = true, attrTo(info.Attr), info.Bytes, info.Level
		case !errors.Is(err, store.ErrNotFound):
			one.Failure = failureOf(err)
		}
		reply.Infos[i] = one
	}
	return reply, nil
}

// Delete implements pagespb.PagesServer.
func (s *Server) Delete(ctx context.Context, r *pagespb.DeleteRequest) (*pagespb.DeleteReply, error) {
	keys, err := s.keys(ctx, r.Keys)
	if err != nil {
		return nil, answer(err)
	}
	for _, key := range keys {
		if err := s.o.Store.Delete(ctx, key); err != nil {
			return nil, answer(err)
		}
	}
	return &pagespb.DeleteReply{}, nil
}

// Pin implements pagespb.PagesServer.
func (s *Server) Pin(ctx context.Context, r *pagespb.PinRequest) (*pagespb.PinReply, error) {
	key, err := s.key(ctx, r.Key)
	if err == nil {
		err = s.o.Store.Pin(ctx, key, min(max(time.Duration(r.LeaseNanos), 0), s.o.MaxPin))
	}
	if err != nil {
		return nil, answer(err)
	}
	return &pagespb.PinReply{}, nil
}

// scanEntries is how many pages a reply lists.
const scanEntries = 256

// Scan implements pagespb.PagesServer.
func (s *Server) Scan(r *pagespb.ScanRequest, stream grpc.ServerStreamingServer[pagespb.ScanReply]) error {
	ctx := stream.Context()
	if err := s.o.Allow(ctx, r.Namespace); err != nil {
		return answer(err)
	}
	var entries []*pagespb.ScanReply_Entry
	for e, err := range s.o.Store.Scan(ctx, r.Namespace) {
		if err != nil {
			return answer(err)
		}
		entries = append(entries, &pagespb.ScanReply_Entry{Key: keyTo(e.Key), Attr: attrTo(e.Info.Attr), Size: e.Info.Bytes, Level: e.Info.Level})
		if len(entries) == scanEntries {
			if err := stream.Send(&pagespb.ScanReply{Entries: entries}); err != nil {
				return err
			}
			entries = nil
		}
	}
	if len(entries) == 0 {
		return nil
	}
	return stream.Send(&pagespb.ScanReply{Entries: entries})
}
