package selectserver

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func FuzzTokenIDs(f *testing.F) {
	for _, seed := range []string{`[]`, `[1,2,3]`, ` [ 0 , 4294967295 ] `, `[4294967296]`, `[-1]`, `[1.5]`, `[1e3]`, `null`, `"x"`, `{}`, `[[1]]`, `[1,`, `[null]`, `[01]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want []uint32
		wrong := json.Unmarshal([]byte(text), &want)
		var got tokenIDs
		err := json.Unmarshal([]byte(text), &got)
		if wrong != nil {
			require.Error(t, err)
			return
		}
		for i := range want { // null is 0 for the library, and no token for us
			if want[i] == 0 && err != nil {
				return
			}
		}
		require.NoError(t, err)
		require.Equal(t, len(want), len(got))
		for i := range want {
			require.Equal(t, want[i], got[i])
		}
	})
}

func TestBlockSums(t *testing.T) {
	var got []blockSum
	require.NoError(t, json.Unmarshal([]byte(`[1, "2", "0xfF", 18446744073709551615, "18446744073709551615"]`), &got))
	require.Equal(t, []blockSum{1, 2, 255, 1<<64 - 1, 1<<64 - 1}, got)
	for _, wrong := range []string{`["x"]`, `[1.5]`, `[-1]`, `[""]`, `["0x"]`, `[18446744073709551616]`, `[{}]`} {
		require.ErrorContains(t, json.Unmarshal([]byte(wrong), &got), "want a number from 0 to 2^64-1", wrong)
	}
}
