package resp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/memory"
	"github.com/inferloom/inferloom/kvcache/store/resp"
	"github.com/inferloom/inferloom/kvcache/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server and returns its address; the test's end shuts it down.
func serve(t testing.TB, o resp.Options) (address string, server *resp.Server) {
	t.Helper()
	if o.Store == nil {
		o.Store = &storetest.Map{}
	}
	server, err := resp.NewServer(o)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, server.Shutdown(ctx))
		require.ErrorIs(t, <-ended, resp.ErrServerClosed)
	})
	return l.Addr().String(), server
}

func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// encode is a command as clients send it.
func encode(words ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

// say sends commands, words between spaces, and expects the bytes of the answers.
func say(t testing.TB, c net.Conn, commands, answers string) {
	t.Helper()
	for line := range strings.SplitSeq(commands, "\n") {
		_, err := io.WriteString(c, encode(strings.Fields(line)...))
		require.NoError(t, err)
	}
	expect(t, c, answers)
}

func expect(t testing.TB, c net.Conn, answers string) {
	t.Helper()
	got := make([]byte, len(answers))
	n, err := io.ReadFull(c, got)
	require.Equal(t, answers, string(got[:n]))
	require.NoError(t, err)
}

func closed(t testing.TB, c net.Conn) {
	t.Helper()
	rest, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Empty(t, string(rest))
}

const lmcache = "m/llama@1@0@3fa9@half"

func TestConversations(t *testing.T) {
	for _, row := range []struct{ name, commands, answers string }{
		{"set and get", "SET k v\nGET k\nget k", "+OK\r\n$1\r\nv\r\n$1\r\nv\r\n"},
		{"a miss", "GET k", "$-1\r\n"},
		{"an empty value", "EXISTS k", ":0\r\n"},
		{"several", "SET a 1\nSET b 22\nMGET a x b\nEXISTS a a x", "+OK\r\n+OK\r\n*3\r\n$1\r\n1\r\n$-1\r\n$2\r\n22\r\n:2\r\n"},
		{"delete", "SET a 1\nDEL a x\nUNLINK a\nGET a", "+OK\r\n:1\r\n:0\r\n$-1\r\n"},
		{"parts", "SET a 12345\nGETRANGE a 1 2\nGETRANGE a -2 -1\nGETRANGE a 0 99\nGETRANGE a 4 2\nGETRANGE x 0 1\nGETRANGE a x 1",
			"+OK\r\n$2\r\n23\r\n$2\r\n45\r\n$5\r\n12345\r\n$0\r\n\r\n$0\r\n\r\n-ERR value is not an integer or out of range\r\n"},
		{"length and type", "SET a 12345\nSTRLEN a\nSTRLEN x\nTYPE a\nTYPE x", "+OK\r\n:5\r\n:0\r\n+string\r\n+none\r\n"},
		{"only if absent", "SET a 1 NX\nSET a 2 NX\nGET a", "+OK\r\n$-1\r\n$1\r\n1\r\n"},
		{"only if present", "SET a 1 XX\nSET a 1\nSET a 2 XX\nGET a", "$-1\r\n+OK\r\n+OK\r\n$1\r\n2\r\n"},
		{"what was there", "SET a 1 GET\nSET a 2 GET\nSET a 3 NX GET\nGET a", "$-1\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n2\r\n"},
		{"both conditions", "SET a 1 NX XX\nGET a", "-ERR syntax error\r\n$-1\r\n"},
		{"no time to live", "SET a 1\nTTL a\nTTL x\nPERSIST a", "+OK\r\n:-1\r\n:-2\r\n:0\r\n"},
		{"a time to live", "SET a 1 EX 100\nTTL a\nSET a 2 KEEPTTL\nTTL a\nSET a 3\nTTL a\nEXPIRE a 50\nTTL a\nPERSIST a\nTTL a\nEXPIRE x 1",
			"+OK\r\n:100\r\n+OK\r\n:100\r\n+OK\r\n:-1\r\n:1\r\n:50\r\n:1\r\n:-1\r\n:0\r\n"},
		{"milliseconds", "SET a 1 PX 100000\nTTL a\nPEXPIRE a 60000\nTTL a", "+OK\r\n:100\r\n:1\r\n:60\r\n"},
		{"times that make no sense", "SET a 1 EX 0\nSET a 1 EX\nSET a 1 EX x\nSET a 1 EX 1 PX 1\nEXPIRE a 99999999999999\nGET a",
			"-ERR invalid expire time in 'set' command\r\n-ERR syntax error\r\n-ERR invalid expire time in 'set' command\r\n-ERR syntax error\r\n" +
				"-ERR value is not an integer or out of range\r\n$-1\r\n"},
		{"ended at once", "SET a 1\nEXPIRE a 0\nGET a\nEXISTS a", "+OK\r\n:1\r\n$-1\r\n:0\r\n"},
		{"databases", "SET a 1\nSELECT 1\nGET a\nSET a 2\nSELECT 0\nGET a\nSELECT 16", "+OK\r\n+OK\r\n$-1\r\n+OK\r\n+OK\r\n$1\r\n1\r\n-ERR DB index is out of range\r\n"},
		{"scan", "SET a 1\nSCAN 0 MATCH * COUNT 100\nSCAN 0 MATCH b*\nSCAN 0 TYPE list\nSCAN 7\nSCAN x\nDBSIZE", "+OK\r\n*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n*2\r\n$1\r\n0\r\n*0\r\n*2\r\n$1\r\n0\r\n*0\r\n" +
			"-ERR cursor 7 is unknown or has waited longer than 1m0s: begin again at 0\r\n-ERR invalid cursor\r\n:1\r\n"},
		{"flush", "SET a 1\nFLUSHDB\nDBSIZE", "+OK\r\n+OK\r\n:0\r\n"},
		{"small talk", "PING\nPING hello\nECHO x\nCLIENT SETINFO LIB-NAME redis-py\nCLIENT SETNAME me\nCLIENT GETNAME\nCOMMAND\nCOMMAND DOCS\nCONFIG GET save\nRESET",
			"+PONG\r\n$5\r\nhello\r\n$1\r\nx\r\n+OK\r\n+OK\r\n$2\r\nme\r\n*0\r\n*0\r\n*0\r\n+RESET\r\n"},
		{"unknown", "LPUSH a 1\nCLIENT KILL x\nCONFIG SET a b\nPING", "-ERR unknown command \"LPUSH\"\r\n-ERR unknown subcommand 'kill'\r\n-ERR CONFIG \"set\" is not supported\r\n+PONG\r\n"},
		{"arguments", "GET\nGET a b\nSET a\nPING", "-ERR wrong number of arguments for 'get' command\r\n-ERR wrong number of arguments for 'get' command\r\n-ERR wrong number of arguments for 'set' command\r\n+PONG\r\n"},
		{"protocol 3", "HELLO 4\nHELLO 3 SETNAME x\nGET k\nCONFIG GET save", "-NOPROTO unsupported protocol version\r\n%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n" +
			"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n_\r\n%0\r\n"},
		{"what glide looks at", "INFO REPLICATION", "$51\r\n# Replication\r\nrole:master\r\nconnected_slaves:0\r\n\r\n"},
		{"a password that nobody asked for", "AUTH secret\nPING", "+OK\r\n+PONG\r\n"},
		{"LMCache's native client", "EXISTS " + lmcache + "\nSET " + lmcache + " abc\nEXISTS " + lmcache + "\nGET " + lmcache + "\nDEL " + lmcache, ":0\r\n+OK\r\n:1\r\n$3\r\nabc\r\n:1\r\n"},
		{"a key that is too long", "GET " + strings.Repeat("k", 513), "-ERR key of 513 bytes: want 1 to 512\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			address, _ := serve(t, resp.Options{})
			c := dial(t, address)
			if strings.HasPrefix(row.answers, "$51") {
				row.answers = strings.Replace(row.answers, "$51", fmt.Sprintf("$%d", len("# Replication\r\nrole:master\r\nconnected_slaves:0\r\n")), 1)
			}
			say(t, c, row.commands, row.answers)
			say(t, c, "QUIT", "+OK\r\n")
			closed(t, c)
		})
	}
}

// That client reads as many bytes as a hit would have, so a miss must have as many, and not be one.
func TestNativeClientNoticesAMiss(t *testing.T) {
	address, _ := serve(t, resp.Options{})
	native := dial(t, address)
	say(t, native, "EXISTS "+lmcache+"\nGET "+lmcache, ":0\r\n") // nobody knows yet how long the answer should be
	closed(t, native)
	say(t, dial(t, address), "SET "+lmcache+"0 "+strings.Repeat("v", 123), "+OK\r\n")
	native = dial(t, address)
	say(t, native, "GET "+lmcache+"\nGET "+lmcache+"0", "$---\r\n$123\r\n"+strings.Repeat("v", 123)+"\r\n")

	for introduction, answer := range map[string]string{"PING": "+PONG\r\n", "SELECT 0": "+OK\r\n", "CLIENT SETINFO LIB-VER 1": "+OK\r\n"} {
		say(t, dial(t, address), introduction+"\nGET "+lmcache, answer+"$-1\r\n")
	}
	say(t, dial(t, address), "GET no-such-form", "$-1\r\n")
}

// A level may keep what it has under a key; a client of Redis is promised the value that was set last.
func TestTheLastValueCounts(t *testing.T) {
	level, err := memory.New(memory.Options{CapacityBytes: 32 << 20})
	require.NoError(t, err)
	defer level.Close()
	address, _ := serve(t, resp.Options{Store: level})
	say(t, dial(t, address), "SET a one\nSET a two\nGET a\nSET a three\nGET a", "+OK\r\n+OK\r\n$3\r\ntwo\r\n+OK\r\n$5\r\nthree\r\n")
}

func TestExistsPinsForTheReadThatFollows(t *testing.T) {
	pins := &pinned{Store: &storetest.Map{}}
	address, _ := serve(t, resp.Options{Store: pins, ReadLease: 7 * time.Second})
	say(t, dial(t, address), "SET a 1\nEXISTS a x", "+OK\r\n:1\r\n")
	require.Equal(t, map[string]time.Duration{"a": 7 * time.Second}, pins.leases)
}

type pinned struct {
	store.Store
	leases map[string]time.Duration
}

func (p *pinned) Pin(_ context.Context, key store.Key, lease time.Duration) error {
	if p.leases == nil {
		p.leases = map[string]time.Duration{}
	}
	p.leases[key.Hash] = lease
	return store.ErrUnsupported // which is no failure
}

func TestLargeValues(t *testing.T) {
	address, _ := serve(t, resp.Options{MaxValueBytes: 3 << 20})
	c := dial(t, address)
	large := strings.Repeat("0123456789abcdef", 3<<16)
	go func() { _, _ = io.WriteString(c, encode("SET", "a", large)+encode("GET", "a")+encode("STRLEN", "a")) }()
	expect(t, c, fmt.Sprintf("+OK\r\n$%d\r\n%s\r\n:%d\r\n", len(large), large, len(large)))
	go func() { _, _ = io.WriteString(c, encode("SET", "b", large+"x")+encode("GET", "b")) }()
	expect(t, c, fmt.Sprintf("-ERR page is too large: %d bytes, at most %d\r\n$-1\r\n", len(large)+1, len(large)))
}

func TestAccountsAreApart(t *testing.T) {
	accounts := resp.Accounts(map[string]resp.Account{"default": {"one", "first"}, "other": {"two", "second"}})
	address, _ := serve(t, resp.Options{Authenticate: accounts})
	c := dial(t, address)
	say(t, c, "GET a\nHELLO 3", "-NOAUTH Authentication required.\r\n-NOAUTH HELLO must be called")
	c = dial(t, address)
	wrong := "-WRONGPASS invalid username-password pair or user is disabled.\r\n"
	say(t, c, "AUTH two\nAUTH other one\nAUTH nobody one\nAUTH one\nSET a 1", wrong+wrong+wrong+"+OK\r\n+OK\r\n")
	other := dial(t, address)
	say(t, other, "HELLO 2 AUTH other two", "*14\r\n")
	_, err := io.ReadAtLeast(other, make([]byte, 128), 100)
	require.NoError(t, err)
	other = dial(t, address)
	say(t, other, "AUTH other two\nGET a\nSET a 2\nSCAN 0", "+OK\r\n$-1\r\n+OK\r\n*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n")
	say(t, c, "GET a", "$1\r\n1\r\n")
}

func TestScanTellsEveryKeyOnce(t *testing.T) {
	address, _ := serve(t, resp.Options{})
	c := dial(t, address)
	want := map[string]bool{}
	for i := range 95 {
		key := fmt.Sprintf("key/%03d", i)
		want[key] = true
		say(t, c, "SET "+key+" 1", "+OK\r\n")
	}
	got := map[string]bool{}
	for cursor := "0"; ; {
		_, err := io.WriteString(c, encode("SCAN", cursor, "MATCH", "key*", "COUNT", "7"))
		require.NoError(t, err)
		var keys []string
		cursor, keys = page(t, c)
		for _, k := range keys {
			require.False(t, got[k])
			got[k] = true
		}
		if cursor == "0" {
			break
		}
	}
	require.Equal(t, want, got)
}

func page(t *testing.T, c net.Conn) (cursor string, keys []string) {
	t.Helper()
	line := func() string {
		var b []byte
		for one := make([]byte, 1); len(b) == 0 || b[len(b)-1] != '\n'; b = append(b, one[0]) {
			_, err := io.ReadFull(c, one)
			require.NoError(t, err)
		}
		return strings.TrimSuffix(string(b), "\r\n")
	}
	require.Equal(t, "*2", line())
	line()
	cursor = line()
	var n int
	_, err := fmt.Sscanf(line(), "*%d", &n)
	require.NoError(t, err)
	for range n {
		line()
		keys = append(keys, line())
	}
	return cursor, keys
}

func TestTimesToLiveEnd(t *testing.T) {
	pages := &storetest.Map{}
	address, _ := serve(t, resp.Options{Store: pages})
	say(t, dial(t, address), "SET a 1 PX 5\nSET b 2 PX 100000", "+OK\r\n+OK\r\n")
	require.Eventually(t, func() bool {
		_, err := pages.Stat(context.Background(), store.Key{Namespace: resp.DefaultNamespace, Hash: "a"})
		return errors.Is(err, store.ErrNotFound)
	}, 10*time.Second, time.Millisecond)
	say(t, dial(t, address), "GET a\nGET b", "$-1\r\n$1\r\n2\r\n")
}

func TestFaultsOfTheStore(t *testing.T) {
	fault := storetest.NewFault(&storetest.Map{})
	address, _ := serve(t, resp.Options{Store: fault})
	c := dial(t, address)
	say(t, c, "SET a 1", "+OK\r\n")
	fault.Fail(errors.New("disk\r\non fire"))
	say(t, c, "GET a\nSET b 1\nEXISTS a\nDEL a\nTTL a\nMGET a b\nSCAN 0", strings.Repeat("-ERR disk  on fire\r\n", 5)+"*2\r\n$-1\r\n$-1\r\n-ERR disk  on fire\r\n")
	fault.Fail(store.ErrFull)
	say(t, c, "SET b 1", "-OOM store is full\r\n")
	fault.Fail(store.ErrCorrupt)
	say(t, c, "GET a", "$-1\r\n")
	native := dial(t, address)
	fault.Fail(errors.New("on fire"))
	say(t, native, "SET "+lmcache+" v\nEXISTS "+lmcache+"\nDEL "+lmcache, "-NO\r\n:0\r\n:0\r\n")
	fault.Before(nil)
	say(t, c, "GET a", "$1\r\n1\r\n")
}

func TestAHungStoreIsAnError(t *testing.T) {
	fault := storetest.NewFault(&storetest.Map{})
	fault.Hang()
	address, _ := serve(t, resp.Options{Store: fault, Timeout: 20 * time.Millisecond})
	say(t, dial(t, address), "GET a", "-ERR context deadline exceeded\r\n")
}

func TestViolationsEndTheConnection(t *testing.T) {
	for _, row := range []struct{ name, sent, answer string }{
		{"length", "*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"too many", "*1048577\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
		{"no bulk", "*1\r\n:4\r\n", "-ERR Protocol error: expected '$', got \":\"\r\n"},
		{"bulk length", "*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
		{"long name", "*2\r\n$3\r\nGET\r\n$65537\r\n", "-ERR Protocol error: invalid bulk length: an argument of 65537 bytes\r\n"},
		{"end of a bulk", "*1\r\n$4\r\nPINGxx", "-ERR Protocol error: an argument does not end where its length says\r\n"},
		{"long line", strings.Repeat("x", 70_000), "-ERR Protocol error: too big a line\r\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			address, _ := serve(t, resp.Options{})
			c := dial(t, address)
			_, err := io.WriteString(c, row.sent)
			require.NoError(t, err)
			expect(t, c, row.answer)
		})
	}
}

func TestPlainLines(t *testing.T) {
	address, _ := serve(t, resp.Options{})
	c := dial(t, address)
	_, err := io.WriteString(c, "\r\nPING\r\nset a 1\nGET a\r\n*0\r\n")
	require.NoError(t, err)
	expect(t, c, "+PONG\r\n+OK\r\n$1\r\n1\r\n")
}

func TestASlowCommandIsGivenUp(t *testing.T) {
	address, _ := serve(t, resp.Options{Timeout: 20 * time.Millisecond})
	c := dial(t, address)
	say(t, c, "PING", "+PONG\r\n") // idle connections may stay
	_, err := io.WriteString(c, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$10\r\n01234")
	require.NoError(t, err)
	closed(t, c)
	say(t, dial(t, address), "GET a", "$-1\r\n")
}

func TestConnectionsAreBounded(t *testing.T) {
	address, server := serve(t, resp.Options{MaxConnections: 1})
	first := dial(t, address)
	say(t, first, "PING", "+PONG\r\n")
	expect(t, dial(t, address), "-ERR max number of clients reached\r\n")
	say(t, first, "QUIT", "+OK\r\n")
	closed(t, first)
	require.Eventually(t, func() bool { return server.Connections() == 0 }, 10*time.Second, time.Millisecond)
	say(t, dial(t, address), "PING", "+PONG\r\n")
}

// A command that has begun is answered, an idle connection is closed.
func TestShutdownDrains(t *testing.T) {
	begun, proceed := make(chan struct{}), make(chan struct{})
	fault := storetest.NewFault(&storetest.Map{})
	server, err := resp.NewServer(resp.Options{Store: fault})
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	idle, working := dial(t, l.Addr().String()), dial(t, l.Addr().String())
	say(t, idle, "PING", "+PONG\r\n")
	fault.Before(func(context.Context, string) error { close(begun); <-proceed; return nil })
	say(t, working, "GET a", "")
	<-begun
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(context.Background()) }()
	closed(t, idle)
	require.ErrorIs(t, <-served, resp.ErrServerClosed)
	select {
	case <-done:
		t.Fatal("did not wait")
	default:
	}
	close(proceed)
	expect(t, working, "$-1\r\n")
	closed(t, working)
	require.NoError(t, <-done)
	require.ErrorIs(t, server.Serve(l), resp.ErrServerClosed)
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := resp.NewServer(resp.Options{MaxValueBytes: -1, MaxConnections: -2, Timeout: -3, Namespace: strings.Repeat("n", 253)})
	require.EqualError(t, err, "store: nil\nmax value bytes -1: negative\nmax connections -2: negative\ntimeout -3: negative\nnamespace of 253 bytes: want at most 252")
}

// Whatever clients send, the server neither panics nor hangs, and answers the next client.
func FuzzServer(f *testing.F) {
	f.Add(encode("SET", "a", "1", "EX", "10") + encode("GET", "a"))
	f.Add(encode("HELLO", "3", "AUTH", "a", "b") + encode("SCAN", "0", "MATCH", "[", "COUNT", "-1"))
	f.Add("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\n")
	f.Add("PING\r\n*-1\r\n*2\r\n$0\r\n\r\n$-0\r\n")
	server, err := resp.NewServer(resp.Options{Store: &storetest.Map{}, MaxValueBytes: 1 << 10})
	require.NoError(f, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f, err)
	go func() { _ = server.Serve(l) }()
	f.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	f.Fuzz(func(t *testing.T, sent string) {
		c := dial(t, l.Addr().String()).(*net.TCPConn)
		go func() { _, _ = io.WriteString(c, sent); _ = c.CloseWrite() }()
		_, err := io.Copy(io.Discard, c)
		var timeout net.Error
		require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "hangs")
	})
}
