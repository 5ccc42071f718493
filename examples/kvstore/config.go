package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/kvcache/store/evict"
)

// config is what the flags say.
type config struct {
	memory, diskSize bytesize
	policy           evict.Kind
	disk             string
	peers            []string
	peersName, own   string
	copies           int
	peerAccount      string
	peerPassword     string
	redis            string
	s3               *url.URL
	resp, grpc, http string
	events           string
	eventsReplay     string
	accounts         accounts
	tls              *tls.Config
	grace            time.Duration
}

// bytesize is a number of bytes, written as 8GiB.
type bytesize int64

var units = []struct {
	suffix string
	bytes  int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

func (b *bytesize) Set(text string) error {
	for _, u := range units {
		number, ok := strings.CutSuffix(text, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || n < 0 || n*float64(u.bytes) > 1<<62 {
			break
		}
		*b = bytesize(n * float64(u.bytes))
		return nil
	}
	return errors.New("want a number of bytes such as 512MiB or 8GiB")
}

func (b bytesize) String() string {
	for _, u := range units {
		if int64(b) >= u.bytes && int64(b)%u.bytes == 0 {
			return strconv.FormatInt(int64(b)/u.bytes, 10) + u.suffix
		}
	}
	return "0"
}

func parse(args []string, stderr io.Writer) (config, error) {
	c := config{memory: 1 << 30, diskSize: 10 << 30}
	var peers, s3, accountsFile, cert, key, clientCA string
	f := flag.NewFlagSet("kvstore", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Var(&c.memory, "memory", "CPU memory for pages")
	f.Func("policy", fmt.Sprintf("what leaves memory and disk first: one of %v (default lru)", evict.Kinds()), func(text string) (err error) {
		c.policy, err = evict.ParseKind(text)
		return err
	})
	f.StringVar(&c.disk, "disk", "", "folder for pages on a local disk; empty for none")
	f.Var(&c.diskSize, "disk-size", "how much of the disk may be used")
	f.StringVar(&peers, "peers", "", "gRPC addresses of all replicas, comma separated")
	f.StringVar(&c.peersName, "peers-name", "", "name:port that resolves to the gRPC addresses of all replicas, instead of -peers")
	f.StringVar(&c.own, "own", "", "this replica's gRPC address among the peers")
	f.IntVar(&c.copies, "copies", 1, "how many peers keep a page")
	f.StringVar(&c.peerAccount, "peer-account", "", "account at the peers; its password is in KVSTORE_PEER_PASSWORD")
	f.StringVar(&c.redis, "redis", "", "redis:// or rediss:// address of a Redis or Valkey server for pages")
	f.StringVar(&s3, "s3", "", "bucket for pages: https://ENDPOINT/BUCKET/PREFIX")
	f.StringVar(&c.resp, "resp", "127.0.0.1:6379", "address of the Redis protocol; empty for none")
	f.StringVar(&c.grpc, "grpc", "127.0.0.1:7070", "address of gRPC; empty for none")
	f.StringVar(&c.http, "http", "127.0.0.1:8081", "address of HTTP; empty for none")
	f.StringVar(&c.events, "events", "", "address of KV events over ZeroMQ, for routers; empty for none")
	f.StringVar(&c.eventsReplay, "events-replay", "", "address where missed events are asked for")
	f.StringVar(&accountsFile, "accounts", "", "file of accounts; empty lets everybody do everything")
	f.StringVar(&cert, "tls-cert", "", "certificate file for all listeners")
	f.StringVar(&key, "tls-key", "", "its key file")
	f.StringVar(&clientCA, "tls-client-ca", "", "certificate file of who signs the clients' certificates")
	f.DurationVar(&c.grace, "grace", 30*time.Second, "time that requests under way have to finish at the end")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, program.UsageError{Err: err}
	}
	c.peerPassword = os.Getenv("KVSTORE_PEER_PASSWORD")
	var problems []error
	wrong := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if f.NArg() > 0 {
		wrong("unexpected argument %q", f.Arg(0))
	}
	if peers != "" {
		c.peers = strings.Split(peers, ",")
	}
	if peers != "" && c.peersName != "" {
		wrong("-peers and -peers-name: want one of them")
	}
	if c.eventsReplay != "" && c.events == "" {
		wrong("-events-replay without -events: there would be nothing to replay")
	}
	if c.copies < 1 {
		wrong("-copies is %d, want at least 1", c.copies)
	}
	if s3 != "" {
		u, err := url.Parse(s3)
		if err != nil || u.Host == "" || strings.Trim(u.Path, "/") == "" {
			wrong("-s3 is %q, want https://ENDPOINT/BUCKET/PREFIX", s3)
		}
		c.s3 = u
	}
	if cmp.Or(c.resp, c.grpc, c.http) == "" {
		wrong("-resp, -grpc and -http are all empty: nobody could ask")
	}
	if accountsFile != "" {
		var err error
		if c.accounts, err = readAccounts(accountsFile); err != nil {
			wrong("-accounts: %w", err)
		}
	}
	var err error
	if c.tls, err = readTLS(cert, key, clientCA); err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return c, program.UsageError{Err: err}
	}
	return c, nil
}

// readTLS returns nil where there is no certificate.
func readTLS(cert, key, clientCA string) (*tls.Config, error) {
	if cert == "" && key == "" && clientCA == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("-tls-cert and -tls-key: %w", err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		text, err := os.ReadFile(clientCA)
		if err != nil {
			return nil, fmt.Errorf("-tls-client-ca: %w", err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("-tls-client-ca: %s: no certificate", clientCA)
		}
		c.RootCAs = c.ClientCAs
	}
	return c, nil
}
