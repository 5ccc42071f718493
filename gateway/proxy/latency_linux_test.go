package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const benchAnswerBytes = 1 << 10

var (
	benchQuestion = fmt.Sprintf(`{"model":"llama","messages":[{"role":"user","content":%q}]}`, strings.Repeat("x", 1<<10-62))
	benchAnswer   = fmt.Sprintf(`{"id":"c","choices":[{"message":{"content":%q}}],"usage":{"prompt_tokens":200,"completion_tokens":200}}`,
		strings.Repeat("x", benchAnswerBytes-97))
)

// answerEngine answers every request with benchAnswer, at once, for the life of its process.
func answerEngine() (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		len(benchAnswer), benchAnswer)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				buf := make([]byte, 16<<10)
				for got := 0; ; {
					n, err := c.Read(buf[got:])
					if err != nil {
						return
					}
					if got += n; bytes.HasSuffix(buf[:got], []byte(`"}]}`)) { // the end of benchQuestion
						c.Write(answer)
						got = 0
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// caller is a client with one connection.
type caller struct {
	net.Conn
	request []byte
	calls   int
	buf     [16 << 10]byte
}

func dialCallers(address string, n int) []*caller {
	callers := make([]*caller, n)
	for i := range callers {
		c, err := net.Dial("tcp", address)
		if err != nil {
			panic(err)
		}
		callers[i] = &caller{Conn: c, request: rawPost(address, benchQuestion)}
		callers[i].call()
	}
	return callers
}

func (c *caller) call() {
	c.calls++
	if _, err := c.Write(c.request); err != nil {
		panic(err)
	}
	for got := 0; ; {
		n, err := c.Read(c.buf[got:])
		if err != nil {
			panic(err)
		}
		got += n
		if head := bytes.Index(c.buf[:got], []byte("\r\n\r\n")); head >= 0 && got >= head+4+len(benchAnswer) {
			return
		}
	}
}

// busiest returns the requests per second that the callers get done when each makes the next as soon as it can.
func busiest(callers []*caller) float64 {
	const each = 300
	started := time.Now()
	var wg sync.WaitGroup
	for _, c := range callers {
		wg.Go(func() {
			for range each {
				c.call()
			}
		})
	}
	wg.Wait()
	return float64(each*len(callers)) / time.Since(started).Seconds()
}

// paced makes n calls at rate calls per second, spread evenly over time, whatever the answers take (an open loop). A
// call's latency counts from when it was handed out, the wait for a free caller included.
//
// The pace is kept by a thread that sleeps in the kernel: Go's timers wait in epoll, which counts in milliseconds, so that
// calls would come in clumps of a millisecond's worth and show the time that the proxy takes for all of a clump.
func paced(callers []*caller, rate float64, n int) []time.Duration {
	latencies := make([][]time.Duration, len(callers))
	due := make(chan time.Time, n)
	var wg sync.WaitGroup
	for i, c := range callers {
		wg.Go(func() {
			for from := range due {
				c.call()
				latencies[i] = append(latencies[i], time.Since(from))
			}
		})
	}
	wg.Go(func() {
		runtime.LockOSThread() // for good: its slack is not for others
		defer close(due)
		const setTimerSlack = 29
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0); errno != 0 {
			panic(errno)
		}
		started := time.Now()
		for i := range n {
			at := started.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			if wait := time.Until(at); wait > 0 {
				pause := syscall.NsecToTimespec(int64(wait))
				_ = syscall.Nanosleep(&pause, nil) // cut short by a signal: a little early
			}
			due <- time.Now()
		}
	})
	wg.Wait()
	return slices.Concat(latencies...)
}

// latencyReport is what the load process found out.
type latencyReport struct {
	MaxRate       float64          // requests/s
	Requests      int              // all that went through the proxy
	Without, With [2]time.Duration // p50 and p99
}

// loadProcess is the environment variable that makes TestLoadProcess the load process of BenchmarkAddedLatency: engine
// and client, outside of the proxy's process, whose scheduler would otherwise serve all three in turn and show its own
// time slices as latency. It prints the engine's address, reads the proxy's and how many requests to make, and prints a
// latencyReport.
const loadProcess = "INFERLOOM_PROXY_LOAD"

func TestLoadProcess(t *testing.T) {
	if os.Getenv(loadProcess) == "" {
		t.Skip("only part of BenchmarkAddedLatency")
	}
	generateLoad()
	os.Exit(0) // its connections and goroutines last as long as it does
}

func generateLoad() {
	engine := answerEngine()
	fmt.Println(engine)
	var front string
	var n int
	if _, err := fmt.Scan(&front, &n); err != nil {
		panic(err)
	}
	direct, through := dialCallers(engine, 32), dialCallers(front, 32)
	busiest(through) // warms up
	report := latencyReport{MaxRate: sustained(through)}
	rate := report.MaxRate / 2
	var without, with []time.Duration
	for len(with) < n {
		slice := min(n-len(with), int(rate/4)) // of a quarter of a second at most, so that both see the same machine
		without = append(without, paced(direct, rate, slice)...)
		with = append(with, paced(through, rate, slice)...)
	}
	percentiles := func(all []time.Duration) [2]time.Duration {
		slices.Sort(all)
		return [2]time.Duration{all[len(all)/2], all[len(all)*99/100]}
	}
	for _, c := range through {
		report.Requests += c.calls
	}
	report.Without, report.With = percentiles(without), percentiles(with)
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		panic(err)
	}
}

// sustained returns the greatest rate of independent requests that the callers get answered, a 99th percentile of 10 ms
// included. It is below busiest: requests that come one by one save the machine fewer wake-ups than those that come in
// step with the answers.
func sustained(callers []*caller) float64 {
	for rate := busiest(callers); ; rate *= 0.9 {
		latencies := paced(callers, rate, int(rate/2))
		slices.Sort(latencies)
		if latencies[len(latencies)*99/100] < 10*time.Millisecond {
			return rate
		}
	}
}

// BenchmarkAddedLatency measures what a proxy adds to a request and an answer of 1 KB at half of its greatest load: the
// median and the 99th percentile through the proxy less those without it, at the same rate, in alternation. Engine and
// client are a second process on the same cores. The greatest load is that of sustained. proxy-µs/request is the CPU time
// of the proxy's process, over all loads.
func BenchmarkAddedLatency(b *testing.B) {
	b.Run("ours", func(b *testing.B) { addedLatency(b, oursInFrontOf) })
	b.Run("httputil", func(b *testing.B) { addedLatency(b, httputilInFrontOf) })
	b.Run("tcp", func(b *testing.B) { addedLatency(b, tcpInFrontOf) })
}

func addedLatency(b *testing.B, inFrontOf func(engine string) (address string, stop func())) {
	load := exec.Command(os.Args[0], "-test.run=^TestLoadProcess$")
	load.Env = append(os.Environ(), loadProcess+"=1")
	load.Stderr = os.Stderr
	in, err := load.StdinPipe()
	require.NoError(b, err)
	out, err := load.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, load.Start())

	var engine string
	_, err = fmt.Fscanln(out, &engine)
	require.NoError(b, err)
	front, stop := inFrontOf(engine)
	defer stop()
	spent := processCPU()
	_, err = fmt.Fprintln(in, front, max(b.N, 20_000)) // for a 99th percentile that means something
	require.NoError(b, err)
	var report latencyReport
	require.NoError(b, json.NewDecoder(out).Decode(&report))
	require.NoError(b, load.Wait())

	added := func(i int) float64 { return float64((report.With[i] - report.Without[i]).Nanoseconds()) / 1e3 }
	b.ReportMetric(added(0), "added-p50-µs")
	b.ReportMetric(added(1), "added-p99-µs")
	b.ReportMetric(float64(report.Without[0].Nanoseconds())/1e3, "direct-p50-µs")
	b.ReportMetric(float64(report.Without[1].Nanoseconds())/1e3, "direct-p99-µs")
	b.ReportMetric(report.MaxRate, "max-requests/s")
	b.ReportMetric(float64((processCPU()-spent).Microseconds())/float64(report.Requests), "proxy-µs/request")
	b.ReportMetric(0, "ns/op") // an op is paced: its time says nothing
}
