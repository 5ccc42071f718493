package storetest

import (
	"net"
	"os/exec"
	"testing"
	"time"
)

// RedisServer starts redis-server, without persistence, on loopback for the length of a test and returns its address. It
// fails the test where the program is not installed.
func RedisServer(t testing.TB, arguments ...string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	command := exec.Command("redis-server", append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}, arguments...)...)
	if err := command.Start(); err != nil {
		t.Fatal("redis-server: ", err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return address
		}
		<-tick.C
	}
	t.Fatal("redis-server does not answer")
	return ""
}
