package proxy_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The engine and the client of the benchmarks share the process and its two cores with the proxy, so both are as cheap
// as they can be: system calls on sockets that the Go runtime does not poll, from one thread each, whose CPU time is
// known and can be taken off the process's.

// eventMark occurs once in every event of the benchmark and nowhere in the framing of chunks, to count events by.
const eventMark = '~'

const benchEvent = `data: {"id":"chatcmpl~8f1c2a7be0","object":"chat.completion.chunk","created":1732300000,"model":"llama-3.1-8b",` +
	`"choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}` + "\n\n"

// rawListen listens on loopback outside the runtime's poller.
func rawListen(tb testing.TB) (fd int, address string) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(tb, err)
	require.NoError(tb, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(tb, syscall.Listen(fd, 512))
	name, err := syscall.Getsockname(fd)
	require.NoError(tb, err)
	return fd, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

func rawDial(tb testing.TB, address string) (fd int) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(tb, err)
	to, err := netip.ParseAddrPort(address)
	require.NoError(tb, err)
	require.NoError(tb, syscall.Connect(fd, &syscall.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}))
	return fd
}

// threadCPU returns the CPU time of the calling thread, processCPU that of the process.
func threadCPU() time.Duration  { return cpu(1) } // RUSAGE_THREAD
func processCPU() time.Duration { return cpu(syscall.RUSAGE_SELF) }

func cpu(who int) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// worker is a loop on a thread of its own whose CPU time can be read from outside.
type worker struct {
	stop atomic.Bool
	cpu  atomic.Int64
	wg   sync.WaitGroup
}

// run calls step every interval until close. A step that takes longer than the interval drops ticks.
func (w *worker) run(interval time.Duration, step func()) {
	w.wg.Go(func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for !w.stop.Load() {
			<-tick.C
			step()
			w.cpu.Store(int64(threadCPU()))
		}
	})
}

func (w *worker) close() {
	w.stop.Store(true)
	w.wg.Wait()
}

func (w *worker) spent() time.Duration { return time.Duration(w.cpu.Load()) }

// eventEngine streams one event a connection at every step.
type eventEngine struct {
	worker
	fds     []int
	rest    [][]byte // of an event that the connection had no room for
	listen  int      // the listening socket
	address string
	chunk   []byte
}

func newEventEngine(tb testing.TB) *eventEngine {
	e := &eventEngine{chunk: fmt.Appendf(nil, "%x\r\n%s\r\n", len(benchEvent), benchEvent)}
	e.listen, e.address = rawListen(tb)
	return e
}

// accept takes n requests and answers them with a header.
func (e *eventEngine) accept(tb testing.TB, n int) {
	buf := make([]byte, 64<<10)
	for range n {
		fd, _, err := syscall.Accept(e.listen)
		require.NoError(tb, err)
		got := 0
		for got == 0 || buf[got-1] != '}' { // the end of the body
			m, err := syscall.Read(fd, buf[got:])
			require.NoError(tb, err)
			require.Positive(tb, m)
			got += m
		}
		syscall.Write(fd, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"))
		require.NoError(tb, syscall.SetNonblock(fd, true))
		e.fds = append(e.fds, fd)
	}
	e.rest = make([][]byte, n)
}

func (e *eventEngine) step() {
	for i, fd := range e.fds {
		out := e.rest[i]
		if len(out) == 0 {
			out = e.chunk
		}
		n, _ := syscall.Write(fd, out)
		e.rest[i] = out[max(n, 0):]
	}
}

// eventClient counts the events that arrive on its connections.
type eventClient struct {
	worker
	fds    []int
	events atomic.Int64
	buf    [64 << 10]byte
}

func (c *eventClient) step() {
	events := 0
	for _, fd := range c.fds {
		if n, _ := syscall.Read(fd, c.buf[:]); n > 0 {
			events += bytes.Count(c.buf[:n], []byte{eventMark})
		}
	}
	c.events.Add(int64(events))
}

// BenchmarkRelaySSE relays 200 concurrent streams over loopback, whose engine flushes one event a stream every
// millisecond. One op is one event that has reached its client. events/s is what arrives while engine, proxy and
// client share the machine; cpu-ns/event is the CPU time of the process, proxy-ns/event the same without the
// threads of engine and client. direct has no proxy and is the floor.
func BenchmarkRelaySSE(b *testing.B) {
	b.Run("direct", func(b *testing.B) {
		relayEvents(b, func(engine string) (string, func()) { return engine, func() {} })
	})
	b.Run("ours", func(b *testing.B) { relayEvents(b, oursInFrontOf) })
	b.Run("httputil", func(b *testing.B) { relayEvents(b, httputilInFrontOf) })
}

func relayEvents(b *testing.B, inFrontOf func(engine string) (address string, stop func())) {
	const streams = 200
	engine := newEventEngine(b)
	address, stop := inFrontOf(engine.address)
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		engine.accept(b, streams)
	}()
	client := &eventClient{}
	request := rawPost(address, streamBody)
	for range streams {
		fd := rawDial(b, address)
		_, err := syscall.Write(fd, request)
		require.NoError(b, err)
		require.NoError(b, syscall.SetNonblock(fd, true))
		client.fds = append(client.fds, fd)
	}
	<-accepted
	engine.run(time.Millisecond, engine.step)
	client.run(2*time.Millisecond, client.step)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	received := func(n int64) {
		for client.events.Load() < n {
			<-poll.C
		}
	}
	received(20 * streams) // every stream is under way

	b.ReportAllocs()
	b.ResetTimer()
	before := client.events.Load()
	started, process, harness := time.Now(), processCPU(), engine.spent()+client.spent()
	received(before + int64(b.N))
	b.StopTimer()
	took, events := time.Since(started), float64(client.events.Load()-before)
	process, harness = processCPU()-process, engine.spent()+client.spent()-harness
	b.ReportMetric(events/took.Seconds(), "events/s")
	b.ReportMetric(float64(process.Nanoseconds())/events, "cpu-ns/event")
	b.ReportMetric(float64((process-harness).Nanoseconds())/events, "proxy-ns/event")

	engine.close()
	client.close()
	for _, fd := range append(append(engine.fds, engine.listen), client.fds...) {
		syscall.Close(fd)
	}
	stop()
}
