package cputime

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWorkTakesTime(t *testing.T) {
	before, ok := Used()
	if !ok {
		t.Skip("this system does not tell")
	}
	x := 1.0
	for range 20_000_000 {
		x = x*1.0000001 + 1e-9
	}
	after, _ := Used()
	assert.Greater(t, after, before, "%v", x)
}
