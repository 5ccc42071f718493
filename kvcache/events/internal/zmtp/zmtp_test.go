package zmtp

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is a connection that reads what was prepared and swallows what is written.
type wire struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (w *wire) Read(p []byte) (int, error)      { return w.in.Read(p) }
func (w *wire) Write(p []byte) (int, error)     { return w.out.Write(p) }
func (w *wire) SetDeadline(time.Time) error     { return nil }
func (w *wire) SetReadDeadline(time.Time) error { return nil }

func greeting(major byte, mechanism string) []byte {
	g := make([]byte, 64)
	g[0], g[9], g[10] = 0xff, 0x7f, major
	copy(g[12:], mechanism)
	return g
}

const readyPub = "\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"

func open(t testing.TB, after string) (*Conn, *wire, error) {
	w := &wire{in: strings.NewReader(string(greeting(3, "NULL")) + readyPub + after)}
	c, err := Handshake(w, Sub, 1000, time.Time{})
	return c, w, err
}

// The bytes of the greeting and of a SUB's READY are those of RFC 23.
func TestBytes(t *testing.T) {
	c, w, err := open(t, "\x01\x01a\x01\x00\x00\x02bc"+"\x04\x0a\x04PING\x00\x01ctx"+"\x04\x03\x02XX"+"\x02\x00\x00\x00\x00\x00\x00\x00\x01z"+"\x04\x0c\x09SUBSCRIBEab")
	require.NoError(t, err)
	require.Equal(t, string(greeting(3, "NULL"))+"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB", w.out.String())
	w.out.Reset()
	m, err := c.Read()
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("a"), {}, []byte("bc")}, m)
	m, err = c.Read()
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("z")}, m)
	require.Equal(t, "\x04\x08\x04PONGctx", w.out.String())
	m, err = c.Read()
	require.NoError(t, err)
	prefix, add, ok := Subscription(m)
	require.True(t, add && ok && string(prefix) == "ab")
	_, err = c.Read()
	require.ErrorIs(t, err, io.EOF)
	w.out.Reset()
	require.NoError(t, c.Subscribe("kv@"))
	require.NoError(t, c.Write(bytes.Repeat([]byte("x"), 256)))
	require.Equal(t, "\x00\x04\x01kv@\x02\x00\x00\x00\x00\x00\x00\x01\x00"+strings.Repeat("x", 256), w.out.String())
}

func TestRefusals(t *testing.T) {
	for want, in := range map[string]string{
		"does not speak ZMTP":             strings.Repeat("H", 64),
		"speaks ZMTP 2":                   string(greeting(2, "NULL")),
		`mechanism "CURVE"`:               string(greeting(3, "CURVE")),
		`a SUB cannot talk to the peer's`: string(greeting(3, "NULL")) + strings.Replace(readyPub, "PUB", "REP", 1),
		"refuses: \"\\x02no\"":            string(greeting(3, "NULL")) + "\x04\x09\x05ERROR\x02no",
		"message before READY":            string(greeting(3, "NULL")) + "\x00\x00",
		"cut off":                         string(greeting(3, "NULL")) + "\x04\x08\x05READY\x0bx",
		"EOF":                             string(greeting(3, "NULL"))[:20],
	} {
		_, err := Handshake(&wire{in: strings.NewReader(in)}, Sub, 1000, time.Time{})
		require.ErrorContains(t, err, want)
	}
	for want, after := range map[string]string{
		ErrTooLarge.Error():   "\x02\x7f\x00\x00\x00\x00\x00\x00\x00",
		"frame flags":         "\x08\x00",
		"within a message":    "\x01\x00\x04\x03\x02XX",
		"without a name":      "\x04\x01\x09",
		"the peer ends":       "\x04\x08\x05ERROR\x01x",
		"unexpected EOF":      "\x00\x05abc",
		"larger than allowed": strings.Repeat("\x01\x00", 65),
	} {
		c, _, err := open(t, after)
		require.NoError(t, err)
		_, err = c.Read()
		require.ErrorContains(t, err, want)
	}
}

func FuzzConn(f *testing.F) {
	f.Add([]byte("\x01\x01a\x00\x02bc\x04\x0a\x04PING\x00\x01ctx"))
	f.Fuzz(func(t *testing.T, in []byte) {
		_, _ = Handshake(&wire{in: bytes.NewReader(in)}, Sub, 1000, time.Time{})
		c, _, err := open(t, string(in))
		require.NoError(t, err)
		for {
			m, err := c.Read()
			if err != nil {
				return
			}
			require.NotEmpty(t, m)
			Subscription(m)
		}
	})
}
