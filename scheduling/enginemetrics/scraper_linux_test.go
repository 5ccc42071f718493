package enginemetrics

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
)

// fleet starts the server and returns a pool of so many endpoints at it.
func fleet(b *testing.B, n int) *scheduling.Pool {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverVariable+"=1")
	stdin, err := cmd.StdinPipe()
	require.NoError(b, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	var port int
	_, err = fmt.Fscan(stdout, &port)
	require.NoError(b, err)
	endpoints := make([]scheduling.Endpoint, n)
	for i := range endpoints {
		endpoints[i] = scheduling.Endpoint{Address: fmt.Sprintf("127.1.%d.%d:%d", i/250, i%250+1, port)}
	}
	return newPool(b, endpoints...)
}

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScrape reads every endpoint once and reports to the pool. Pages are of the size of a real vLLM's, 50 KB in 92
// families; the server is another process.
func BenchmarkScrape(b *testing.B) {
	const n = 100
	b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
		pool := fleet(b, n)
		s, err := New(pool, Options{Observe: func(r Reading) { require.NoError(b, r.Err) }})
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Run(ctx) // makes it ready
		for _, slot := range pool.Snapshot().Live() {
			s.apply(scheduling.Change{Kind: scheduling.Added, Slot: slot, Endpoint: pool.Snapshot().Endpoint(slot)})
		}
		r := newReader()
		round := func() {
			for _, t := range s.targets {
				t.read(context.Background(), &s.o, s.parser, r)
			}
			s.queue = s.queue[:0]
			for _, t := range s.targets {
				s.collect(t, time.Now())
			}
			s.advance(s.flush)
		}
		round()
		b.ReportAllocs()
		b.ResetTimer()
		before := cpu(b)
		for range b.N {
			round()
		}
		b.ReportMetric(float64(cpu(b)-before)/float64(b.N*n)/1000, "cpu-µs/endpoint")
		b.StopTimer()
		for _, t := range s.targets {
			t.close()
		}
	})
}

// BenchmarkIdle is what a scraper with its default intervals costs while nothing happens.
func BenchmarkIdle(b *testing.B) {
	const n = 100
	b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
		pool := fleet(b, n)
		s, err := New(pool, Options{})
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx) }()
		time.Sleep(3 * time.Second) // the intervals have grown
		b.ResetTimer()
		before, start := cpu(b), time.Now()
		time.Sleep(2 * time.Second)
		b.ReportMetric(float64(cpu(b)-before)/float64(time.Since(start)), "cores")
		cancel()
		<-ended
	})
}
