package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
	"github.com/inferloom/inferloom/scheduling/replay"
	"github.com/inferloom/inferloom/scheduling/shadow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs the program until the function that it returns is called, which returns the program's error.
func start(t *testing.T, args ...string) (url string, stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), in, io.Discard)
		in.CloseWithError(err)
		ended <- err
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return strings.TrimSpace(strings.TrimPrefix(line, "listening on ")), func() error {
		cancel()
		return <-ended
	}
}

func TestTheProgramRuns(t *testing.T) {
	folder := t.TempDir()
	other, file := filepath.Join(folder, "other.yaml"), filepath.Join(folder, "decisions.jsonl")
	require.NoError(t, os.WriteFile(other, []byte("profile: {scorers: [in-flight-requests]}\n"), 0o644))
	url, stop := start(t, "-shadow", other, "-record", file, "-scrape")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	call := func(method, path, body string, answer any) {
		r, err := http.NewRequest(method, url+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := client.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Less(t, resp.StatusCode, 300)
		if answer != nil {
			require.NoError(t, json.NewDecoder(resp.Body).Decode(answer))
		}
	}
	for i := range 3 {
		call("POST", "/workers", fmt.Sprintf(`{"id":"w%d","address":"127.0.0.1:%d","model":"m"}`, i, i+1), nil)
	}
	for i := range 20 {
		var p struct{ Reservation string }
		call("POST", "/select_and_reserve", fmt.Sprintf(`{"model":"m","prompt":{"text":"%0200d"}}`, i%4), &p)
		if i%2 == 0 {
			call("DELETE", "/reservations/"+p.Reservation, "", nil)
		}
	}
	var stats shadow.Stats
	call("GET", "/shadow", "", &stats)
	require.EqualValues(t, 20, stats.Compared())
	require.Equal(t, other, stats.Shadow)
	require.NoError(t, stop())

	recording, err := os.Open(file)
	require.NoError(t, err)
	defer recording.Close()
	index, err := prefix.New(prefix.Options{MaxBytes: 16 << 20})
	require.NoError(t, err)
	report, err := replay.Run(t.Context(), replay.NewReader(recording), replay.Options{Plan: scheduling.Options{Profile: policy.Default(index)}})
	require.NoError(t, err)
	require.Equal(t, 20, report.Choices)
	require.Equal(t, 20, report.Agreed, "%v", report)
}

func TestMistakesAreSaid(t *testing.T) {
	wrong := filepath.Join(t.TempDir(), "wrong.yaml")
	require.NoError(t, os.WriteFile(wrong, []byte("profile: {scorers: [{type: no-such}]}\n"), 0o644))
	for want, args := range map[string][]string{
		`"x"`:     {"x"},
		"no-such": {"-config", wrong},
		"nothing": {"-preset", "nothing"},
		"missing": {"-config", "missing.yaml"},
	} {
		require.ErrorContains(t, run(t.Context(), append([]string{"-listen", "127.0.0.1:0"}, args...), io.Discard, io.Discard), want)
	}
	require.ErrorContains(t, run(t.Context(), []string{"-listen", "127.0.0.1:0", "-shadow", wrong}, io.Discard, io.Discard), "no-such")
	require.ErrorContains(t, run(t.Context(), []string{"-listen", "127.0.0.1:0", "-lease", "-1s"}, io.Discard, io.Discard), "lease -1s")
}
