package indexserver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
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
	Tokens []uint32 `json:"token_ids"`
	Salt   *string  `json:"cache_salt"`

	Rolling hashes64 `json:"seq_hashes"`   // Mooncake
	Older   hashes64 `json:"block_hash"`   // its earlier drafts
	Local   hashes64 `json:"block_hashes"` // Dynamo
}

// hashes64 are numbers of 64 bits, with a sign or without.
type hashes64 []uint64

func (h *hashes64) UnmarshalJSON(b []byte) error {
	var numbers []json.Number
	if err := json.Unmarshal(b, &numbers); err != nil {
		return err
	}
	*h = make(hashes64, len(numbers))
	for i, n := range numbers {
		u, err := strconv.ParseUint(string(n), 10, 64)
		if err != nil {
			var signed int64
			signed, err = strconv.ParseInt(string(n), 10, 64)
			u = uint64(signed)
		}
		if err != nil {
			return fmt.Errorf("hash %d: %.30s is no number of 64 bits", i, n)
		}
		(*h)[i] = u
	}
	return nil
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
