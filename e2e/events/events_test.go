//go:build e2e

package events

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/blockhash"
	"github.com/inferloom/inferloom/kvcache/events"
)

// process is a Python script that answers each line.
type process struct {
	t      *testing.T
	in     io.WriteCloser
	out    *bufio.Scanner
	prefix string
	stop   func()
}

func run(t *testing.T, prefix, python string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(python, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	stop := func() { // twice does no harm
		_ = in.Close() // the scripts end by themselves, and vLLM with its workers
		timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_ = cmd.Wait()
	}
	t.Cleanup(stop)
	p := &process{t: t, in: in, out: bufio.NewScanner(out), prefix: prefix, stop: stop}
	p.answer()
	return p
}

func (p *process) answer() string {
	p.t.Helper()
	for p.out.Scan() {
		if rest, ok := strings.CutPrefix(p.out.Text(), p.prefix); ok {
			return rest
		}
	}
	require.FailNow(p.t, "the script has ended")
	return ""
}

func (p *process) ask(line string) string {
	p.t.Helper()
	_, err := fmt.Fprintln(p.in, line)
	require.NoError(p.t, err)
	return p.answer()
}

func freePorts(t *testing.T) (int, int) {
	t.Helper()
	a, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer a.Close()
	b, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer b.Close()
	return a.Addr().(*net.TCPAddr).Port, b.Addr().(*net.TCPAddr).Port
}

// sink hands on what it is told.
type sink struct {
	events chan events.Event
	lost   chan events.Loss
}

func (s *sink) Apply(m *events.Message) {
	for _, e := range m.Batch.Events {
		e.Hashes = append([]uint64(nil), e.Hashes...)
		e.Tokens = append([]uint32(nil), e.Tokens...)
		s.events <- e
	}
}

func (s *sink) Lost(l events.Loss) { s.lost <- l }

func subscribe(t *testing.T, port, replay int, topic string) (*events.Subscriber, *sink) {
	t.Helper()
	s := &sink{events: make(chan events.Event, 1<<16), lost: make(chan events.Loss, 100)}
	sub, err := events.NewSubscriber(events.Options{
		Endpoint: fmt.Sprintf("tcp://127.0.0.1:%d", port), Replay: fmt.Sprintf("tcp://127.0.0.1:%d", replay), Topic: topic,
		MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
	}, s)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = sub.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return sub, s
}

func (s *sink) next(t *testing.T) events.Event {
	t.Helper()
	select {
	case e := <-s.events:
		return e
	case <-time.After(20 * time.Second):
		require.FailNow(t, "no event arrives")
		return events.Event{}
	}
}

func or(variable, standard string) string {
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return standard
}

// A publisher on libzmq: history, live batches, a gap filled by a replay, and a restart on the same ports.
func TestLibzmq(t *testing.T) {
	for _, form := range []string{"old", "new"} {
		t.Run(form, func(t *testing.T) {
			port, replay := freePorts(t)
			start := func() *process {
				return run(t, "ok", or("E2E_PYTHON", "python3"), "publisher.py", fmt.Sprint(port), fmt.Sprint(replay), form)
			}
			p := start()
			p.ask("lose 5000")
			sub, s := subscribe(t, port, replay, "kv@")
			expect := func(from, to uint64) {
				t.Helper()
				for i := from; i < to; i++ {
					require.Equal(t, []uint64{i}, s.next(t).Hashes)
				}
			}
			expect(0, 5000)
			p.ask("send 20000") // those sent before the subscription has arrived come with the next gap
			p.ask("lose 10")
			p.ask("send 1")
			expect(5000, 25011)
			require.Empty(t, s.lost)
			h := sub.Health()
			require.Equal(t, []uint64{25011, 0, 0, 0}, []uint64{h.Batches, h.Undecodable, h.Malformed, h.Gaps})

			p.stop()
			p = start()
			p.ask("lose 30000") // further than the old one ever came
			// A first, early replay may have had nothing yet: a live batch then shows what is missing.
			for deadline := time.Now().Add(20 * time.Second); len(s.events) < 30000; {
				require.True(t, time.Now().Before(deadline), "%d events after the restart; %+v", len(s.events), sub.Health())
				p.ask("send 1")
				time.Sleep(50 * time.Millisecond)
			}
			expect(0, 30000)
			require.Equal(t, events.Restart, (<-s.lost).Cause)
		})
	}
}

// startVLLM starts vLLM with a model and an adapter of random weights, or passes the test over.
func startVLLM(t *testing.T, algorithm string) (engine *process, adapter string, port, replay int) {
	t.Helper()
	python := os.Getenv("E2E_VLLM_PYTHON")
	if python == "" {
		t.Skip("E2E_VLLM_PYTHON is not set")
	}
	script := func(args ...string) {
		out, err := exec.Command(python, args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	model := or("E2E_MODEL", filepath.Join(t.TempDir(), "model"))
	if _, err := os.Stat(filepath.Join(model, "config.json")); err != nil {
		script("../engine/model.py", model)
	}
	adapter = filepath.Join(t.TempDir(), "sql")
	script("adapter.py", model, adapter)
	port, replay = freePorts(t)
	engine = run(t, "answer ", python, "engine.py", model, adapter, fmt.Sprint(port), fmt.Sprint(replay), algorithm)
	return engine, adapter, port, replay
}

// makePrompts returns prompts of different lengths that share beginnings.
func makePrompts() (prompts [][]uint32) {
	for i := range 6 {
		p := make([]uint32, 150+37*i)
		for j := range p {
			p[j] = uint32(300 + (j*7+j/64*i*13)%3000)
		}
		prompts = append(prompts, p)
	}
	return prompts
}

// The hashes that vLLM publishes and the tokens it finds in its cache are what blockhash and the events predict.
func TestVLLM(t *testing.T) {
	engine, adapter, port, replay := startVLLM(t, "sha256_cbor")
	sub, s := subscribe(t, port, replay, "kv@")
	scheme, err := blockhash.NewVLLM(blockhash.VLLMOptions{Algorithm: "sha256_cbor", Seed: os.Getenv("PYTHONHASHSEED"), Tagged: true})
	require.NoError(t, err)

	const block = 32
	held := map[uint64]bool{} // what the events say
	settle := func() {
		for {
			select {
			case e := <-s.events:
				for _, h := range e.Hashes {
					held[h] = e.Kind == events.Stored
				}
			case <-time.After(2 * time.Second): // vLLM publishes within a tenth of one
				return
			}
		}
	}
	prompts := makePrompts()
	served, hits := 0, 0
	serve := func(tokens []uint32, salt string, lora bool) []uint32 {
		t.Helper()
		line, err := json.Marshal(map[string]any{"tokens": tokens, "salt": salt, "adapter": lora})
		require.NoError(t, err)
		var state blockhash.State
		predicted := 0
		prompt := blockhash.Prompt{Tokens: tokens, BlockTokens: block, Salt: salt}
		if lora {
			prompt.Adapter, prompt.AdapterPath = "sql", adapter
		}
		for _, h := range scheme.Append(nil, &state, &prompt) {
			if !held[h] || predicted+block >= len(tokens) { // vLLM computes at least one token
				break
			}
			predicted += block
		}
		var answer struct {
			Cached int
			Tokens []uint32
		}
		require.NoError(t, json.Unmarshal([]byte(engine.ask(string(line))), &answer))
		assert.Equal(t, answer.Cached, predicted, "prompt of %d tokens, salt %q, adapter %v", len(tokens), salt, lora)
		served++
		if predicted > 0 {
			hits++
		}
		settle()
		// All whole blocks of prompt and answer are held now, save the last token, which has no KV yet.
		whole := append(append([]uint32(nil), tokens...), answer.Tokens...)
		state = blockhash.State{}
		prompt.Tokens = whole[:len(whole)-1]
		for i, h := range scheme.Append(nil, &state, &prompt) {
			assert.True(t, held[h], "block %d of %d tokens, salt %q, adapter %v", i, len(whole), salt, lora)
		}
		return whole
	}
	for _, of := range []struct {
		salt string
		lora bool
	}{{"", false}, {"tenant-a", false}, {"", true}, {"tenant-a", true}, {"", false}, {"", true}} {
		for _, p := range prompts {
			serve(p, of.salt, of.lora)
		}
	}
	conversation := prompts[2]
	for range 4 {
		conversation = append(serve(conversation, "tenant-b", true), 7, 8, 9, 10, 11)
	}
	h := sub.Health()
	t.Logf("%d prompts, %d with hits; %d batches of %d events; %+v", served, hits, h.Batches, h.Events, h)
	require.Positive(t, hits)
	require.Empty(t, s.lost)
	require.Equal(t, []uint64{0, 0, 0, 0}, []uint64{h.Undecodable, h.Malformed, h.Unknown, h.UnknownFields})
}
