package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/kvcache/follow"
	"github.com/inferloom/inferloom/kvcache/indexserver"
)

// config is what the flags say.
type config struct {
	listen, admin string
	accept        string
	engines       []follow.Engine
	register      bool
	maxEngines    int
	maxBytes      int
	keepOnGap     bool
	peers         []string
	file          string
	every         time.Duration
	redis         string
}

func parse(args []string, out io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("kvindexer", flag.ContinueOnError)
	f.SetOutput(out)
	f.StringVar(&c.listen, "listen", "127.0.0.1:13333", "address of the service")
	f.StringVar(&c.admin, "admin", "", "address of what is for operators and replicas; the same if empty")
	f.Func("engine", "an engine's `name=,events=,replay=,model=,block=,rank=,lora=,salt=,tenant=`; can be given several times", func(s string) error {
		e, err := parseEngine(s)
		c.engines = append(c.engines, e)
		return err
	})
	f.StringVar(&c.accept, "accept", "", "address that engines connect to by themselves")
	f.BoolVar(&c.register, "register", true, "let clients register engines")
	f.IntVar(&c.maxEngines, "max-engines", indexserver.DefaultMaxEngines, "engines, each data-parallel rank counted")
	megabytes := f.Int("max-megabytes", 256, "memory for the index")
	f.BoolVar(&c.keepOnGap, "keep-on-gap", false, "keep what is known of an engine when events of it are lost")
	peers := f.String("peers", "", "base URLs of replicas to begin from, comma separated")
	f.StringVar(&c.file, "file", "", "keep the index in this file over restarts")
	f.DurationVar(&c.every, "file-every", 10*time.Minute, "how often it is written; 0 is only at the end")
	f.StringVar(&c.redis, "redis", "", "write what engines hold to Redis or Valkey as well, redis://host:port/db")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, program.UsageError{Err: err}
	}
	var errs []error
	if f.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", f.Arg(0)))
	}
	for _, e := range c.engines {
		if e.Connects && c.accept == "" {
			errs = append(errs, fmt.Errorf("-engine %s has no events=, and there is no -accept", e.Name))
		}
	}
	if c.maxEngines < 1 {
		errs = append(errs, fmt.Errorf("-max-engines is %d, want at least 1", c.maxEngines))
	}
	if *megabytes < 1 {
		errs = append(errs, fmt.Errorf("-max-megabytes is %d, want at least 1", *megabytes))
	}
	if c.every < 0 {
		errs = append(errs, fmt.Errorf("-file-every is %v, want 0 or more", c.every))
	}
	if len(c.engines) > c.maxEngines {
		errs = append(errs, fmt.Errorf("%d engines are more than -max-engines %d", len(c.engines), c.maxEngines))
	}
	if len(errs) > 0 {
		return c, program.UsageError{Err: errors.Join(errs...)}
	}
	c.maxBytes = *megabytes << 20
	if *peers != "" {
		c.peers = strings.Split(*peers, ",")
	}
	return c, nil
}

// parseEngine reads "name=a,events=tcp://host:port,...".
func parseEngine(s string) (follow.Engine, error) {
	var e follow.Engine
	var tenant string
	for _, pair := range strings.Split(s, ",") {
		key, value, ok := strings.Cut(pair, "=")
		var err error
		switch {
		case !ok:
			err = errors.New("want key=value")
		case key == "name":
			e.Name = value
		case key == "events":
			e.Endpoint = value
		case key == "replay":
			e.Replay = value
		case key == "model":
			e.Model = value
		case key == "block":
			e.BlockTokens, err = strconv.Atoi(value)
		case key == "rank":
			e.Rank, err = strconv.Atoi(value)
		case key == "lora":
			e.Adapter = value
		case key == "salt":
			e.Salt = value
		case key == "tenant":
			tenant = value
		default:
			err = errors.New("no such key")
		}
		if err != nil {
			return e, fmt.Errorf("%q: %w", pair, err)
		}
	}
	if e.Name == "" {
		return e, errors.New("name: missing")
	}
	e.Connects = e.Endpoint == ""
	e.Name = indexserver.EngineName(e.Name, cmp.Or(tenant, "default"), e.Rank)
	return e, nil
}
