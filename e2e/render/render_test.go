//go:build e2e

package render

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/token"
	"github.com/inferloom/inferloom/kvcache/token/chat"
	"github.com/inferloom/inferloom/kvcache/token/remote"
)

var texts = []string{
	"hello", " What is the capital of France?\n", "Привет, мир! 你好", "🙂\u200d👩 é e\u0301", "def f(n):\n\treturn n*n\n\n\n",
	"<|im_end|> is no end", "tabs\tand  spaces   ", "\"quotes\" & <tags> \\ backslashes /", "1234567890.5e-7",
}

// conversations are bodies of chat requests.
func conversations(t *testing.T) (bodies [][]byte) {
	tools := []any{map[string]any{"type": "function", "function": map[string]any{
		"name": "get_weather", "description": "of a city, in °C <now>", "parameters": map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
	}}}
	add := func(body map[string]any) {
		body["model"] = "tiny"
		b, err := json.Marshal(body)
		require.NoError(t, err)
		bodies = append(bodies, b)
	}
	turn := func(role, text string) any { return map[string]any{"role": role, "content": text} }
	for i, text := range texts {
		first := []any{turn("system", texts[len(texts)-1-i]), turn("user", text)}
		add(map[string]any{"messages": first, "stream": true, "max_tokens": 5})
		add(map[string]any{"messages": first[1:], "tools": tools})
		add(map[string]any{"messages": append(first, turn("assistant", text), turn("user", "and?")), "chat_template_kwargs": map[string]any{"enable_thinking": false}})
		add(map[string]any{"messages": append(first[1:], turn("assistant", text)), "add_generation_prompt": false})
	}
	return bodies
}

func TestIdsAreVLLMs(t *testing.T) {
	compare(t, t.TempDir())
}

// TestIdsOfPublishedModels is for the folders of models below the one that RENDER_MODELS names, as "real.py --models" in
// e2e/token writes them.
func TestIdsOfPublishedModels(t *testing.T) {
	parent := os.Getenv("RENDER_MODELS")
	if parent == "" {
		t.Skip("RENDER_MODELS is not set")
	}
	folders, err := os.ReadDir(parent)
	require.NoError(t, err)
	for _, folder := range folders {
		t.Run(folder.Name(), func(t *testing.T) { compare(t, filepath.Join(parent, folder.Name())) })
	}
}

// compare asks vLLM, both ways, and a model of our own for the ids of requests.
func compare(t *testing.T, folder string) {
	url := serve(t, folder)
	render, err := remote.New(remote.Options{URLs: []string{url}, Model: "tiny", Timeout: time.Minute})
	require.NoError(t, err)
	defer render.Close()
	tokenize, err := remote.New(remote.Options{URLs: []string{url}, Model: "tiny", API: remote.Tokenize, Timeout: time.Minute})
	require.NoError(t, err)
	defer tokenize.Close()

	file, err := os.ReadFile(filepath.Join(folder, "tokenizer.json"))
	require.NoError(t, err)
	local, err := token.Load(file, token.Options{})
	require.NoError(t, err)
	config, err := os.ReadFile(filepath.Join(folder, "tokenizer_config.json"))
	require.NoError(t, err)
	o := chat.Options{Tokenizer: local}
	require.NoError(t, o.ReadConfig(config))
	model, err := chat.New(o)
	require.NoError(t, err)
	for _, text := range texts {
		body, err := json.Marshal(map[string]any{"model": "an-adapter", "prompt": text})
		require.NoError(t, err)
		want, err := model.AppendCompletion(t.Context(), nil, body)
		require.NoError(t, err)
		for _, c := range []*remote.Client{render, tokenize} {
			ids, err := c.AppendCompletion(t.Context(), nil, body)
			require.NoError(t, err)
			assert.Equal(t, ids, want, text)
		}
	}
	equal, refused := 0, 0
	for _, body := range conversations(t) {
		ids, err := render.AppendChat(t.Context(), nil, body)
		var status *remote.StatusError
		if errors.As(err, &status) && status.Status == http.StatusBadRequest {
			_, err = model.AppendChat(t.Context(), nil, body)
			assert.Error(t, err, "vLLM refused %s: %s", body, status.Message)
			refused++
			continue
		}
		require.NoError(t, err)
		ours, err := model.AppendChat(t.Context(), nil, body)
		require.NoError(t, err, "%s", body)
		assert.Equal(t, ids, ours, "%s", body)
		again, err := tokenize.AppendChat(t.Context(), nil, body)
		require.NoError(t, err)
		assert.Equal(t, ids, again, "%s", body)
		equal++
	}
	t.Logf("%d chats with equal ids, %d refused by both", equal, refused)

	for body, want := range map[string]string{
		`{"messages":"hello"}`: "status 400",
		`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}`: "status 400",
		`{"prompt":["a","b"]}`: remote.ErrPrompts.Error(),
	} {
		ask := render.AppendChat
		if body[2] == 'p' {
			ask = render.AppendCompletion
		}
		_, err := ask(t.Context(), nil, []byte(body))
		assert.ErrorContains(t, err, want, body)
	}
}

// serve starts vLLM and returns its URL. It is ended with the test.
func serve(t *testing.T, folder string) string {
	python := os.Getenv("E2E_VLLM")
	require.NotEmpty(t, python, "E2E_VLLM names a Python with vLLM")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := free.Addr().(*net.TCPAddr).Port
	require.NoError(t, free.Close())
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer log.Close()

	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, python, "serve.py", folder, fmt.Sprint(port))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("vLLM: %s", said[max(0, len(said)-4000):])
		}
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	require.Eventually(t, func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		response, err := http.Get(url + "/health")
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, 3*time.Minute, 200*time.Millisecond, "vLLM is up")
	return url
}
