package resp_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/kvcache/store/memory"
	"github.com/inferloom/inferloom/kvcache/store/resp"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

const pageBytes = 256 << 10

// BenchmarkRESPGet reads pages of 256 KiB over loopback, by one client on one connection or on eight: from this server, from one that does nothing
// but answer, which is the floor, and from redis-server if it is installed.
func BenchmarkRESPGet(b *testing.B) {
	for _, connections := range []int{1, 8} {
		for _, contender := range []struct {
			name  string
			serve func(testing.TB) string
		}{{"inferloom", serveStore}, {"nothing", serveNothing}, {"redis-server", serveRedis}} {
			b.Run(fmt.Sprintf("server=%s/connections=%d", contender.name, connections), func(b *testing.B) {
				address := contender.serve(b)
				put(b, address)
				b.SetBytes(pageBytes)
				b.ReportAllocs()
				get(b, address, connections)
			})
		}
	}
}

func serveStore(t testing.TB) string {
	level, err := memory.New(memory.Options{CapacityBytes: 64 << 20})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, level.Close()) })
	address, _ := serve(t, resp.Options{Store: level})
	return address
}

// serveNothing answers every command with the same page, whatever it says.
func serveNothing(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	page := make([]byte, pageBytes)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReaderSize(c, 64<<10)
				for {
					word, err := skipCommand(in)
					if err != nil {
						return
					}
					if word == "SET" {
						_, _ = c.Write([]byte("+OK\r\n"))
						continue
					}
					parts := net.Buffers{fmt.Appendf(nil, "$%d\r\n", len(page)), page, []byte("\r\n")}
					if _, err := parts.WriteTo(c); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func skipCommand(in *bufio.Reader) (word string, err error) {
	head, err := in.ReadString('\n')
	if err != nil {
		return "", err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(head[1:]))
	for i := range n {
		head, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		length, _ := strconv.Atoi(strings.TrimSpace(head[1:]))
		if i == 0 {
			text := make([]byte, length)
			_, err = io.ReadFull(in, text)
			word, length = string(text), 0
		}
		if err == nil {
			_, err = in.Discard(length + 2)
		}
		if err != nil {
			return "", err
		}
	}
	return word, nil
}

func serveRedis(t testing.TB) string {
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	return storetest.RedisServer(t)
}

func put(b *testing.B, address string) {
	c := dial(b, address)
	_, err := io.WriteString(c, encode("SET", "page", strings.Repeat("x", pageBytes)))
	require.NoError(b, err)
	expect(b, c, "+OK\r\n")
}

// get reads b.N pages, shared among connections.
func get(b *testing.B, address string, connections int) {
	ask, answer := []byte(encode("GET", "page")), len(fmt.Sprintf("$%d\r\n\r\n", pageBytes))+pageBytes
	tickets, ended := make(chan struct{}, connections), make(chan error, connections)
	for range connections {
		c, err := net.Dial("tcp", address)
		require.NoError(b, err)
		defer c.Close()
		go func() {
			buffer := make([]byte, answer)
			for range tickets {
				if _, err := c.Write(ask); err != nil {
					ended <- err
					return
				}
				if _, err := io.ReadFull(c, buffer); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	b.ResetTimer()
	for range b.N {
		tickets <- struct{}{}
	}
	close(tickets)
	for range connections {
		require.NoError(b, <-ended)
	}
}
