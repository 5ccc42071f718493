//go:build e2e

package token

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReference compares with the reference library id for id, on ten million characters and more for each family. It
// trains the vocabularies and asks the library first, unless TOKEN_DATA has what e2e/token/train.py wrote. E2E_PYTHON is a
// Python with e2e/token/requirements.txt.
func TestReference(t *testing.T) {
	folder := dataFolder
	if folder == "" {
		folder = t.TempDir()
		out, err := exec.Command(cmp.Or(os.Getenv("E2E_PYTHON"), "python3"), "../../e2e/token/train.py", folder).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.cases"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".cases"), func(t *testing.T) {
			file, err := os.ReadFile(strings.TrimSuffix(path, ".cases") + ".json")
			require.NoError(t, err)
			tok, err := Load(file, Options{})
			require.NoError(t, err)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			characters, mismatches := compare(t, tok, readExpectations(t, data))
			t.Logf("%d characters compared, %d texts differ", characters, mismatches)
		})
	}
}
