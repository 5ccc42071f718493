package workers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhoWaitsCanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(1)
		boom := errors.New("boom")
		require.ErrorIs(t, w.Do(t.Context(), func() error { return boom }, nil, nil), boom)

		hang := make(chan struct{})
		abandoned, refused := false, false
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, w.Do(ctx, func() error { <-hang; return nil }, func() { abandoned = true }, nil), context.DeadlineExceeded)
		later, cancelLater := context.WithTimeout(t.Context(), time.Second)
		defer cancelLater()
		require.ErrorIs(t, w.Do(later, func() error { return boom }, nil, func() { refused = true }), context.DeadlineExceeded)
		require.True(t, refused)
		require.False(t, abandoned)
		close(hang)
		synctest.Wait()
		require.True(t, abandoned)

		w.Stop()
		require.ErrorIs(t, w.Do(t.Context(), func() error { return nil }, nil, nil), store.ErrClosed)
	})
}
