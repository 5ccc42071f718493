package indexserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// dialect is whose names a request uses; the answer uses the same.
type dialect uint8

const (
	mooncake dialect = iota
	dynamo
)

// text is a string, or a number that stands for one: Dynamo's instances are numbered, Mooncake's named.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if string(b) == "null" {
		return nil
	}
	if _, err := strconv.ParseUint(string(b), 10, 64); err != nil {
		return fmt.Errorf("%.20s is neither a string nor a whole number", b)
	}
	*t = text(b)
	return nil
}

// names are what all requests have to say which caches they are about.
type names struct {
	ModelName string `json:"model_name"` // Dynamo
	Modelname string `json:"modelname"`  // Mooncake, in registrations
	Model     string `json:"model"`      // Mooncake, in queries

	Adapter  string `json:"lora_name"`
	Tenant   string `json:"tenant_id"`
	Group    string `json:"routing_group"` // Dynamo's newer name for what separates pools
	Instance text   `json:"instance_id"`

	BlockSize int  `json:"block_size"`
	Rank      *int `json:"dp_rank"`
}

func (n *names) model() string { return cmp.Or(n.ModelName, n.Modelname, n.Model) }

func (n *names) dialect() dialect {
	if n.ModelName != "" {
		return dynamo
	}
	return mooncake
}

// tenant returns the pool that a request is about. Dynamo ignores tenant_id since it has routing groups; those who still send
// one mean the same.
func (n *names) tenant() string { return cmp.Or(n.Group, n.Tenant, defaultTenant) }

func (n *names) rank() int {
	if n.Rank == nil {
		return 0
	}
	return *n.Rank
}

func (n *names) check() []error {
	var errs []error
	if n.model() == "" {
		errs = append(errs, errors.New("model: missing (modelname or model in Mooncake's API, model_name in Dynamo's)"))
	}
	if strings.Contains(n.tenant(), "|") {
		errs = append(errs, fmt.Errorf("tenant_id or routing_group: %q has a \"|\"", n.tenant()))
	}
	if n.BlockSize < 0 || n.BlockSize > maxBlockTokens {
		errs = append(errs, fmt.Errorf("block_size: %d is not in 1..%d", n.BlockSize, maxBlockTokens))
	}
	if r := n.rank(); r < 0 || r > maxRank {
		errs = append(errs, fmt.Errorf("dp_rank: %d is not in 0..%d", r, maxRank))
	}
	return errs
}

const (
	defaultTenant  = "default"
	maxBlockTokens = 1 << 16
	maxRank        = 1<<16 - 1
)

type registration struct {
	names
	Endpoint string `json:"endpoint"`
	Replay   string `json:"replay_endpoint"`
	Type     string `json:"type"`
	Salt     string `json:"additionalsalt"`
	Salt2    string `json:"additional_salt"`
}

func (r *registration) salt() string { return cmp.Or(r.Salt, r.Salt2) }

func (r *registration) check() error {
	errs := r.names.check()
	if r.Instance == "" {
		errs = append(errs, errors.New("instance_id: missing"))
	}
	if r.BlockSize == 0 {
		errs = append(errs, errors.New("block_size: missing"))
	}
	if r.Endpoint == "" {
		errs = append(errs, errors.New("endpoint: missing"))
	}
	return errors.Join(errs...)
}

type query struct {
	names
	Tokens ids     `json:"token_ids"`
	Salt   *string `json:"cache_salt"`

	Rolling hashes64 `json:"seq_hashes"`   // Mooncake
	Older   hashes64 `json:"block_hash"`   // its earlier drafts
	Local   hashes64 `json:"block_hashes"` // Dynamo
}

// ids are token ids.
type ids []uint32

func (t *ids) UnmarshalJSON(b []byte) (err error) {
	*t, err = appendNumbers((*t)[:0], b, func(field []byte) (uint32, bool) {
		v, ok := digits(field)
		return uint32(v), ok && v <= math.MaxUint32
	})
	return err
}

// hashes64 are numbers of 64 bits, with a sign or without.
type hashes64 []uint64

func (h *hashes64) UnmarshalJSON(b []byte) (err error) {
	*h, err = appendNumbers((*h)[:0], b, func(field []byte) (uint64, bool) {
		if rest, negative := bytes.CutPrefix(field, []byte{'-'}); negative {
			v, ok := digits(rest)
			return -v, ok && v <= 1<<63
		}
		return digits(field)
	})
	return err
}

// digits reads a whole number.
func digits(b []byte) (v uint64, ok bool) {
	for _, c := range b {
		high, low := bits.Mul64(v, 10)
		d := uint64(c - '0')
		if c < '0' || c > '9' || high > 0 || low > math.MaxUint64-d {
			return 0, false
		}
		v = low + d
	}
	return v, len(b) > 0
}

// appendNumbers reads an array of JSON, several times as fast as encoding/json does.
func appendNumbers[T any](dst []T, b []byte, parse func([]byte) (T, bool)) ([]T, error) {
	if string(b) == "null" {
		return dst, nil
	}
	if len(b) < 2 || b[0] != '[' {
		return dst, fmt.Errorf("%.20s is no array", b)
	}
	rest := bytes.TrimSpace(b[1 : len(b)-1])
	dst = slices.Grow(dst, bytes.Count(rest, []byte{','})+1)
	for more := len(rest) > 0; more; {
		var field []byte
		field, rest, more = bytes.Cut(rest, []byte{','})
		v, ok := parse(bytes.TrimSpace(field))
		if !ok {
			return dst, fmt.Errorf("element %d: %.30s is no whole number in range", len(dst), field)
		}
		dst = append(dst, v)
	}
	return dst, nil
}

func (q *query) salt() string {
	if q.Salt == nil {
		return ""
	}
	return *q.Salt
}

// decode reads a JSON body of at most limit bytes. It writes the error's answer itself.
func decode(w http.ResponseWriter, r *http.Request, limit int64, into any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", limit))
		return false
	case err != nil:
		fail(w, http.StatusBadRequest, err)
		return false
	}
	if err := json.Unmarshal(body, into); err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("body: %w", err))
		return false
	}
	return true
}

func fail(w http.ResponseWriter, status int, err error) {
	answer(w, status, map[string]string{"error": err.Error()})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nobody to tell
}
