package sim

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParallelReturnsTheFirstError(t *testing.T) {
	broken := errors.New("broken")
	err := Parallel(t.Context(), 3, 20, func(_ context.Context, i int) error {
		if i == 7 {
			return broken
		}
		return nil
	})
	assert.ErrorIs(t, err, broken)
}
