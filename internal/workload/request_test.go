package workload

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTextIsAFunctionOfTheID(t *testing.T) {
	text := func(id uint64, tokens int) string { return string(Piece{id, tokens}.AppendText(nil)) }
	assert.Equal(t, "kib kat zoz pis ", text(0, 4), "the same in every process and version")
	assert.Len(t, text(1, 512), 512*BytesPerToken)
	assert.True(t, strings.HasPrefix(text(1, 512), text(1, 100)), "a shorter piece is a prefix")
	seen := map[string]uint64{}
	for id := range uint64(10_000) {
		first := text(id, 16)
		if other, ok := seen[first]; ok {
			t.Fatalf("%d and %d begin alike: %s", id, other, first)
		}
		seen[first] = id
	}
}

func TestTextNeedsNoEscapes(t *testing.T) {
	text := string(Message{User, []Piece{{1, 300}, {2, 20}}}.AppendText(nil))
	quoted, err := json.Marshal(text)
	require.NoError(t, err)
	assert.Equal(t, `"`+text+`"`, string(quoted))
	assert.Len(t, text, 320*BytesPerToken)
}
