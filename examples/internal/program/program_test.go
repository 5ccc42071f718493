package program

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestStatus(t *testing.T) {
	failed := errors.New("no such trace")
	for _, row := range []struct {
		name string
		err  error
		want int
		said string
	}{
		{"success", nil, 0, ""},
		{"help", fmt.Errorf("flags: %w", flag.ErrHelp), 0, ""},
		{"failure", failed, 1, "simulate: no such trace\n"},
		{"usage", fmt.Errorf("-trace: %w", UsageError{failed}), 2, "simulate: -trace: no such trace\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var stderr bytes.Buffer
			assert.Equal(t, row.want, status("simulate", row.err, &stderr))
			assert.Equal(t, row.said, stderr.String())
		})
	}
}
