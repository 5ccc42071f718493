package resp

import (
	"errors"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/kvcache/store"
)

// LMCache's native client (csrc/storage_backends/redis of LMCache 0.5.6) does not parse replies. It reads as many bytes as the
// reply that it hopes for has, and compares: a miss or an error of another length leaves it waiting for ever, or takes the next
// reply's beginning for this one's end. A connection that was closed it does not open again. What serves it is a
// reply of the same length that is not the same.

// native reports whether the connection sounds like that client: it has introduced itself with nothing, and asks for a key of LMCache's
// form, which is model, world size, worker or rank, hash and more between "@".
func (c *conn) native(key store.Key) bool {
	return !c.introduced && strings.Count(key.Hash, "@") >= 3
}

// misfit answers the native client that its command has failed.
func (c *conn) misfit(err error) error {
	switch c.doing {
	case "set":
		c.w.raw("-NO\r\n") // in the place of +OK
	case "exists", "del":
		c.w.raw(":0\r\n")
	case "get":
		// All values of a deployment have one size, so any that has been seen tells how long the reply's first line is.
		size, known := c.server.sizes.Load(c.namespace())
		if !known {
			return errors.Join(errSilence, err)
		}
		c.w.raw("$" + strings.Repeat("-", len(strconv.Itoa(size.(int)))) + "\r\n")
	default:
		return errors.Join(errSilence, err)
	}
	return answered(err)
}

// sized remembers the size of the native client's values.
func (c *conn) sized(key store.Key, size int) {
	if c.native(key) {
		c.server.sizes.Store(c.namespace(), size)
	}
}
