package resp

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/kvcache/store"
)

// serverVersion is the Redis version whose commands these are, for clients that look at it.
const serverVersion = "7.4.0"

// hello switches the protocol, and may authenticate and name the client on the way.
func (c *conn) hello(_ context.Context, arguments int) error {
	proto := c.w.proto
	if arguments > 0 {
		word, err := c.word()
		if err != nil {
			return err
		}
		n, ok := number([]byte(word))
		if !ok || n != 2 && n != 3 {
			return reply("NOPROTO unsupported protocol version")
		}
		proto = n
		arguments--
	}
	for arguments > 0 {
		word, err := c.word()
		if err != nil {
			return err
		}
		switch arguments--; {
		case word == "auth" && arguments >= 2:
			arguments -= 2
			if err := c.authenticate(2); err != nil {
				return err
			}
		case word == "setname" && arguments >= 1:
			arguments--
			name, err := c.r.arg()
			if err != nil {
				return err
			}
			c.name = string(name)
		default:
			return reply(fmt.Sprintf("ERR syntax error in HELLO option '%.32s'", word))
		}
	}
	if c.account == "" {
		return reply("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	}
	c.w.proto = proto
	c.w.pairs(7)
	for _, pair := range [][2]string{{"server", "redis"}, {"version", serverVersion}} {
		c.w.text(pair[0])
		c.w.text(pair[1])
	}
	c.w.text("proto")
	c.w.integer(int64(proto))
	c.w.text("id")
	c.w.integer(c.id)
	for _, pair := range [][2]string{{"mode", "standalone"}, {"role", "master"}} {
		c.w.text(pair[0])
		c.w.text(pair[1])
	}
	c.w.text("modules")
	c.w.array(0)
	return nil
}

func (c *conn) auth(_ context.Context, arguments int) error {
	if err := c.authenticate(arguments); err != nil {
		return err
	}
	c.w.simple("OK")
	return nil
}

// authenticate reads a password, or an account and a password.
func (c *conn) authenticate(arguments int) error {
	user := "default"
	text, err := c.r.arg()
	if err == nil && arguments == 2 {
		user = string(text)
		text, err = c.r.arg()
	}
	if err != nil {
		return err
	}
	if c.server.o.Authenticate == nil {
		// Clients that are configured with a password are not turned away by a server without.
		return nil
	}
	namespace, ok := c.server.o.Authenticate(user, string(text))
	if !ok || namespace == "" || len(namespace) > store.MaxNamespaceBytes-maxSuffixBytes {
		return reply("WRONGPASS invalid username-password pair or user is disabled.")
	}
	c.account = namespace
	return nil
}

func (c *conn) quit(context.Context, int) error {
	c.w.simple("OK")
	return errQuit
}

func (c *conn) restart(context.Context, int) error {
	c.reset()
	c.w.simple("RESET")
	return nil
}

func (c *conn) ping(ctx context.Context, arguments int) error {
	if arguments == 0 {
		c.w.simple("PONG")
		return nil
	}
	return c.echo(ctx, arguments)
}

func (c *conn) echo(context.Context, int) error {
	text, err := c.r.arg()
	if err == nil {
		c.w.bulk(text)
	}
	return err
}

func (c *conn) choose(context.Context, int) error {
	text, err := c.r.arg()
	if err != nil {
		return err
	}
	n, ok := number(text)
	if !ok || n < 0 || n >= databases {
		return reply("ERR DB index is out of range")
	}
	c.database = n
	c.w.simple("OK")
	return nil
}

func (c *conn) client(_ context.Context, arguments int) error {
	word, err := c.word()
	if err != nil {
		return err
	}
	switch {
	case word == "id":
		c.w.integer(c.id)
	case word == "getname":
		c.w.text(c.name)
	case word == "setname" && arguments == 2:
		name, err := c.r.arg()
		if err != nil {
			return err
		}
		c.name = string(name)
		c.w.simple("OK")
	case word == "setinfo", word == "no-evict", word == "no-touch":
		c.w.simple("OK")
	default:
		return reply(fmt.Sprintf("ERR unknown subcommand '%.32s'", word))
	}
	return nil
}

// describe says that there is nothing to be known of commands.
func (c *conn) describe(_ context.Context, arguments int) error {
	if arguments > 0 {
		word, err := c.word()
		if err != nil {
			return err
		}
		if word == "docs" {
			c.w.pairs(0)
			return nil
		}
	}
	c.w.array(0)
	return nil
}

// config knows no parameters, which is how benchmarks and tools find that there are none.
func (c *conn) config(context.Context, int) error {
	word, err := c.word()
	if err != nil {
		return err
	}
	if word != "get" {
		return reply(fmt.Sprintf("ERR CONFIG %.32q is not supported", word))
	}
	c.w.pairs(0)
	return nil
}

func (c *conn) info(_ context.Context, arguments int) error {
	wanted := map[string]bool{}
	for range arguments {
		word, err := c.word()
		if err != nil {
			return err
		}
		wanted[word] = true
	}
	s := c.server
	all := len(wanted) == 0 || wanted["default"] || wanted["all"] || wanted["everything"]
	var text strings.Builder
	section := func(name string, lines ...string) {
		if all || wanted[strings.ToLower(name)] {
			text.WriteString("# " + name + "\r\n" + strings.Join(lines, "\r\n") + "\r\n")
		}
	}
	usage := store.Usage{}
	if sized, ok := s.o.Store.(store.Sized); ok {
		usage = sized.Usage()
	}
	number := func(name string, n int64) string { return name + ":" + strconv.FormatInt(n, 10) }
	section("Server", "redis_version:"+serverVersion, "redis_mode:standalone", "server_name:inferloom",
		number("uptime_in_seconds", int64(s.o.Now().Sub(s.started).Seconds())))
	section("Clients", number("connected_clients", int64(s.Connections())), number("maxclients", int64(s.o.MaxConnections)))
	section("Memory", number("used_memory", usage.UsedBytes), number("maxmemory", usage.CapacityBytes), "maxmemory_policy:allkeys-lru")
	section("Stats", number("total_commands_processed", s.commands.Load()), number("total_connections_received", s.ids.Load()))
	section("Replication", "role:master", "connected_slaves:0")
	section("Keyspace", fmt.Sprintf("db0:keys=%d,expires=%d,avg_ttl=0", usage.Pages, s.expiry.len()))
	c.w.text(text.String())
	return nil
}
