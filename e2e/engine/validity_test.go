//go:build e2e

package engine

import (
	"cmp"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAgainstVLLM records all loads anew, in RECORDINGS if that is set, and replays them.
func TestAgainstVLLM(t *testing.T) {
	folder := cmp.Or(os.Getenv("RECORDINGS"), t.TempDir())
	record := exec.Command(cmp.Or(os.Getenv("E2E_PYTHON"), "python3"), "record.py", folder)
	record.Env = append(os.Environ(), "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	out, err := record.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)

	replay := exec.Command("go", "test", "-count=1", "-v", "-run", "RealEngine", "github.com/inferloom/inferloom/internal/engine")
	replay.Env = append(os.Environ(), "ENGINE_RECORDINGS="+folder)
	out, err = replay.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
}
