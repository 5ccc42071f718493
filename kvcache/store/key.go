package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Limits of a Key. A hash is as long as an engine's digest, or an opaque name that a client of a remote protocol chose.
const (
	MaxNamespaceBytes = 255
	MaxHashBytes      = 512
)

// Key names a page. Keys are comparable.
type Key struct {
	// Namespace separates what must never meet: tenants, models, layouts, dtypes. It is not empty.
	Namespace string
	// Hash is the raw digest of the block and all before it. It is not empty.
	Hash string
	// Group is the cache group of a model with several, else 0.
	Group uint32
	// Rank is the worker whose part of the block this is.
	Rank uint32
}

// Validate reports what is wrong with a key, as an error that is ErrKey.
func (k Key) Validate() error {
	if k.valid() {
		return nil
	}
	var errs []error
	if n := len(k.Namespace); n == 0 || n > MaxNamespaceBytes {
		errs = append(errs, fmt.Errorf("%w: Namespace has %d bytes, want 1 to %d", ErrKey, n, MaxNamespaceBytes))
	}
	if n := len(k.Hash); n == 0 || n > MaxHashBytes {
		errs = append(errs, fmt.Errorf("%w: Hash has %d bytes, want 1 to %d", ErrKey, n, MaxHashBytes))
	}
	return errors.Join(errs...)
}

func (k Key) valid() bool {
	return len(k.Namespace)-1 < MaxNamespaceBytes && len(k.Namespace) > 0 && len(k.Hash)-1 < MaxHashBytes && len(k.Hash) > 0
}

// String is the key as one name for object stores, Redis and logs: the namespace with all but letters, digits and "-_.~"
// escaped as in URLs, the hash in hexadecimal, the group and the rank, between slashes. No two keys have the same name.
func (k Key) String() string {
	return Prefix(k.Namespace) + hex.EncodeToString([]byte(k.Hash)) + "/" +
		strconv.FormatUint(uint64(k.Group), 10) + "/" + strconv.FormatUint(uint64(k.Rank), 10)
}

// Prefix is what the names of all keys of a namespace begin with, and those of no other; of the empty namespace it is empty.
func Prefix(namespace string) string {
	if namespace == "" {
		return ""
	}
	s := url.PathEscape(namespace)
	if strings.Trim(s, ".") == "" {
		// As a folder's name, dots alone would mean another folder.
		s = strings.ReplaceAll(s, ".", "%2E")
	}
	return s + "/"
}

// ParseKey is the inverse of String. It takes no other spelling of a key.
func ParseKey(name string) (Key, error) {
	var k Key
	wrong := func() (Key, error) { return Key{}, fmt.Errorf("%w: %q is not the name of a key", ErrKey, name) }
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return wrong()
	}
	namespace, err := url.PathUnescape(parts[0])
	if err != nil {
		return wrong()
	}
	hash, err := hex.DecodeString(parts[1])
	if err != nil {
		return wrong()
	}
	group, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil {
		return wrong()
	}
	rank, err := strconv.ParseUint(parts[3], 10, 32)
	if err != nil {
		return wrong()
	}
	k = Key{namespace, string(hash), uint32(group), uint32(rank)}
	if !k.valid() || k.String() != name {
		return wrong()
	}
	return k, nil
}
