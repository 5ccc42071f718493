//go:build e2e

package clients

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/internal/testenv"
)

func TestOfficialClients(t *testing.T) {
	for _, row := range []struct {
		name    string
		command []string
	}{
		{"python", []string{or("E2E_PYTHON", "python3"), "chat.py"}},
		{"javascript", []string{or("E2E_NODE", "node"), "chat.mjs"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := testenv.NewCluster(t, 3)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, row.command[0], row.command[1:]...)
			cmd.Env = append(os.Environ(), "OPENAI_BASE_URL="+c.URL+"/v1", "OPENAI_API_KEY=none", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			require.NoError(t, err)
			c.RequireIdle(t)
		})
	}
}

func or(variable, standard string) string {
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return standard
}
