package peer

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/peer/pagespb"
)

// chunkBytes is how much of a page goes into a message.
const chunkBytes = 256 << 10

// DefaultMaxPageBytes is the bound on pages where options do not say.
const DefaultMaxPageBytes = 256 << 20

// kinds are the errors of package store as the wire knows them. The first that fits is sent.
var kinds = []struct {
	err  error
	kind pagespb.Failure_Kind
	code codes.Code
}{
	{store.ErrNotFound, pagespb.Failure_NOT_FOUND, codes.NotFound},
	{store.ErrCorrupt, pagespb.Failure_CORRUPT, codes.DataLoss},
	{store.ErrFull, pagespb.Failure_FULL, codes.ResourceExhausted},
	{store.ErrTooLarge, pagespb.Failure_TOO_LARGE, codes.InvalidArgument},
	{store.ErrQuota, pagespb.Failure_QUOTA, codes.ResourceExhausted},
	{store.ErrShed, pagespb.Failure_SHED, codes.ResourceExhausted},
	{store.ErrUnavailable, pagespb.Failure_UNAVAILABLE, codes.Unavailable},
	{store.ErrUnsupported, pagespb.Failure_UNSUPPORTED, codes.Unimplemented},
	{store.ErrClosed, pagespb.Failure_CLOSED, codes.Unavailable},
	{store.ErrKey, pagespb.Failure_KEY, codes.InvalidArgument},
	{store.ErrAttr, pagespb.Failure_ATTR, codes.InvalidArgument},
}

// failureOf is an error as a message; nil is none.
func failureOf(err error) *pagespb.Failure {
	if err == nil {
		return nil
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return &pagespb.Failure{Kind: k.kind, Message: err.Error()}
		}
	}
	return &pagespb.Failure{Message: err.Error()}
}

// errorOf is what failureOf was made of, for errors.Is.
func errorOf(f *pagespb.Failure) error {
	if f == nil {
		return nil
	}
	for _, k := range kinds {
		if k.kind == f.Kind {
			return &remoteError{f.Message, k.err}
		}
	}
	return &remoteError{f.Message, nil}
}

// remoteError is what a store at the other end has failed with.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

// answer is an error of a store as the status of a call.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	code := status.FromContextError(err).Code()
	failure := failureOf(err)
	for _, k := range kinds {
		if k.kind == failure.Kind {
			code = k.code
		}
	}
	s, detailed := status.New(code, err.Error()).WithDetails(failure)
	if detailed != nil {
		return status.Error(code, err.Error())
	}
	return s.Err()
}

// understand is the inverse of answer.
func understand(err error) error {
	s, ok := status.FromError(err)
	if !ok || err == nil {
		return err
	}
	for _, detail := range s.Details() {
		if failure, ok := detail.(*pagespb.Failure); ok {
			return errorOf(failure)
		}
	}
	return err
}

func keyOf(k *pagespb.Key) store.Key {
	return store.Key{Namespace: k.GetNamespace(), Hash: string(k.GetHash()), Group: k.GetGroup(), Rank: k.GetRank()}
}

func keyTo(k store.Key) *pagespb.Key {
	return &pagespb.Key{Namespace: k.Namespace, Hash: []byte(k.Hash), Group: k.Group, Rank: k.Rank}
}

func keysTo(keys []store.Key) []*pagespb.Key {
	out := make([]*pagespb.Key, len(keys))
	for i, k := range keys {
		out[i] = keyTo(k)
	}
	return out
}

// attrOf reads attributes; numbers beyond what an int holds are refused by Validate.
func attrOf(a *pagespb.Attr) store.Attr {
	return store.Attr{
		Chained: a.GetChained(), Parent: string(a.GetParent()), Depth: int(a.GetDepth()), Tokens: int(a.GetTokens()),
		Cost: time.Duration(a.GetCostNanos()),
	}
}

func attrTo(a store.Attr) *pagespb.Attr {
	if a == (store.Attr{}) {
		return nil
	}
	return &pagespb.Attr{Chained: a.Chained, Parent: []byte(a.Parent), Depth: int64(a.Depth), Tokens: int64(a.Tokens), CostNanos: int64(a.Cost)}
}

// checkHeader reports a header that no page can have.
func checkHeader(h *pagespb.Header, most int) error {
	switch {
	case h == nil:
		return status.Error(codes.InvalidArgument, "the first message has no header")
	case h.Size < 0:
		return status.Errorf(codes.InvalidArgument, "header.size is %d: negative", h.Size)
	case h.Size > int64(most):
		return fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, h.Size, most)
	}
	return nil
}
