package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestEveryTurnGoesWhereTheLastOneWent(t *testing.T) {
	files, err := fs.Sub(builtin, "model")
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, run(&out, files))
	lines := bufio.NewScanner(&out)
	require.True(t, lines.Scan())
	type last struct {
		tokens   int
		endpoint string
		block    string
	}
	seen := map[string]last{}
	for range 6 {
		require.True(t, lines.Scan())
		var talk, endpoint, first, end string
		var turn, tokens, cached int
		_, err := fmt.Sscanf(lines.Text(), "%s %d %d %d %s %s … %s", &talk, &turn, &tokens, &cached, &endpoint, &first, &end)
		require.NoError(t, err, lines.Text())
		if was, ok := seen[talk]; ok {
			require.Greater(t, turn, 1)
			require.Equal(t, was.endpoint, endpoint)
			require.Equal(t, was.block, first)
			require.Greater(t, tokens, was.tokens)
			// The turn before ended with the opening of the answer, which is part of the next prompt too.
			require.Equal(t, was.tokens/blockTokens*blockTokens, cached)
		}
		seen[talk] = last{tokens, endpoint, first}
	}
	require.Len(t, seen, 2)
	require.NotEqual(t, seen["Birds"].block, seen["Ships"].block)
	require.NotEqual(t, seen["Birds"].endpoint, seen["Ships"].endpoint)
}

func TestWhatAModelLacksIsSaid(t *testing.T) {
	require.ErrorContains(t, run(nil, fstest.MapFS{}), "tokenizer.json")
	require.ErrorContains(t, run(nil, fstest.MapFS{"tokenizer.json": {Data: []byte("{}")}}), "model: is missing")
}
