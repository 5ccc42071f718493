package proxy_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/inferloom/inferloom/gateway"
	"github.com/inferloom/inferloom/gateway/proxy"
)

// What benchmarks compare, each in front of one engine: its address, and what stops it.

func oursInFrontOf(engine string) (address string, stop func()) {
	router := steady{gateway.Target{ID: "engine", Address: engine}}
	p, err := proxy.New(router, proxy.Options{})
	if err != nil {
		panic(err)
	}
	s := httptest.NewServer(p)
	return s.Listener.Addr().String(), func() {
		s.CloseClientConnections()
		s.Close()
		p.Close()
	}
}

func httputilInFrontOf(engine string) (address string, stop func()) {
	transport := &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}
	target := &url.URL{Scheme: "http", Host: engine}
	s := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    &bufferPool{},
		ErrorLog:      log.New(io.Discard, "", 0),
	})
	return s.Listener.Addr().String(), func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	}
}

// tcpInFrontOf copies bytes from connection to connection and understands nothing: the floor for a hop through a Go process.
func tcpInFrontOf(engine string) (address string, stop func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	relay := func(to, from net.Conn) {
		defer to.Close()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", engine)
			if err != nil {
				panic(err)
			}
			go relay(server, client)
			go relay(client, server)
		}
	}()
	return l.Addr().String(), func() { l.Close() }
}

type bufferPool struct{ sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.Pool.Get().(*[32 << 10]byte); ok {
		return b[:]
	}
	return new([32 << 10]byte)[:]
}

func (p *bufferPool) Put(b []byte) { p.Pool.Put((*[32 << 10]byte)(b)) }

func rawPost(address, body string) []byte {
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", address, len(body), body)
}
