package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"
)

// Version is that of the format.
const Version = 1

// Header says how the entries below it are to be read.
type Header struct {
	// Start is what times count from.
	Start time.Time
	// IDs names the space of block, tenant and session numbers.
	IDs string
	// BlockTokens is the size of blocks.
	BlockTokens int
	// Window is how far entries can be out of order: none arrived earlier than this before the latest arrival above it.
	Window time.Duration
}

// Entry is one request. Zero values mean unknown or none.
type Entry struct {
	// At is the arrival since the header's start; a Reader counts from the first header.
	At time.Duration
	// Tenant and Session are numbers from 1 up.
	Tenant, Session uint64
	Model, Adapter  string
	Priority        int
	Stream          bool
	// MaxTokens bounds the answer.
	MaxTokens int
	// InputTokens and OutputTokens are the lengths, CachedTokens what the engine had of the prompt.
	InputTokens, OutputTokens, CachedTokens int
	// Estimated says that the blocks are of a length that was estimated, not counted, in tokens.
	Estimated bool
	// Blocks are the full blocks of the prompt.
	Blocks []Run
	// Endpoint is the one that it was sent to last, Tries how many there were.
	Endpoint string
	Tries    int
	// TTFT and Total are from arrival to the first byte and to the end.
	TTFT, Total time.Duration
	// Status is the HTTP status that the client got; 0 means 200. End is empty for an answered request, else as
	// gateway.Outcome names it.
	Status int
	End    string
}

// Run is blocks with successive numbers.
type Run struct {
	First uint64
	Count int
}

// The largest values that a file may have: lengths in tokens, times of 73 years, numbers of blocks.
const (
	maxTokens = 1 << 27
	maxTime   = time.Duration(1 << 61)
	maxNumber = 1 << 53
)

// headerJSON is a header as it is written.
type headerJSON struct {
	Version     *int      `json:"inferloom_trace"`
	Start       time.Time `json:"start"`
	IDs         string    `json:"ids"`
	BlockTokens int       `json:"block_tokens"`
	WindowUS    int64     `json:"window_us"`
}

func (h Header) validate() error {
	var errs []error
	if h.BlockTokens < 1 || h.BlockTokens > maxTokens {
		errs = append(errs, fmt.Errorf("block_tokens is %d, want 1 to %d", h.BlockTokens, maxTokens))
	}
	if h.Window < 0 || h.Window > maxTime {
		errs = append(errs, fmt.Errorf("window_us is %d, want 0 to %d", h.Window.Microseconds(), maxTime.Microseconds()))
	}
	if y := h.Start.Year(); y < 1970 || y > 2200 {
		errs = append(errs, fmt.Errorf("start is %v, want a time from 1970 to 2200", h.Start))
	}
	return errors.Join(errs...)
}

func (h Header) appendJSON(dst []byte) ([]byte, error) {
	version := Version
	b, err := json.Marshal(headerJSON{&version, h.Start.UTC(), h.IDs, h.BlockTokens, h.Window.Microseconds()})
	if err != nil {
		return dst, err
	}
	return append(append(dst, b...), '\n'), nil
}

// IsHeader reports whether a line is a header, of any version.
func IsHeader(line []byte) bool {
	var h struct {
		Version json.RawMessage `json:"inferloom_trace"`
	}
	return json.Unmarshal(line, &h) == nil && h.Version != nil
}

// appendJSON appends the entry as a line.
func (e *Entry) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"t":`...)
	dst = strconv.AppendInt(dst, e.At.Microseconds(), 10)
	dst = appendField(dst, `,"in":`, int64(e.InputTokens))
	dst = appendField(dst, `,"out":`, int64(e.OutputTokens))
	dst = appendField(dst, `,"cached":`, int64(e.CachedTokens))
	for i, r := range e.Blocks {
		if i == 0 {
			dst = append(dst, `,"blocks":[[`...)
		} else {
			dst = append(dst, `],[`...)
		}
		dst = strconv.AppendUint(dst, r.First, 10)
		dst = append(dst, ',')
		dst = strconv.AppendInt(dst, int64(r.Count), 10)
	}
	if len(e.Blocks) > 0 {
		dst = append(dst, `]]`...)
	}
	if e.Estimated {
		dst = append(dst, `,"est":true`...)
	}
	dst = appendField(dst, `,"tenant":`, int64(e.Tenant))
	dst = appendField(dst, `,"session":`, int64(e.Session))
	dst = appendText(dst, `,"model":`, e.Model)
	dst = appendText(dst, `,"adapter":`, e.Adapter)
	dst = appendField(dst, `,"prio":`, int64(e.Priority))
	if e.Stream {
		dst = append(dst, `,"stream":true`...)
	}
	dst = appendField(dst, `,"max":`, int64(e.MaxTokens))
	dst = appendText(dst, `,"ep":`, e.Endpoint)
	if e.Tries > 1 {
		dst = appendField(dst, `,"tries":`, int64(e.Tries))
	}
	dst = appendField(dst, `,"ttft":`, e.TTFT.Microseconds())
	dst = appendField(dst, `,"total":`, e.Total.Microseconds())
	if e.Status != 200 {
		dst = appendField(dst, `,"status":`, int64(e.Status))
	}
	dst = appendText(dst, `,"end":`, e.End)
	return append(dst, "}\n"...)
}

// appendField appends a field unless it is 0.
func appendField(dst []byte, name string, v int64) []byte {
	if v == 0 {
		return dst
	}
	return strconv.AppendInt(append(dst, name...), v, 10)
}

// appendText appends a field unless it is empty.
func appendText(dst []byte, name, v string) []byte {
	if v == "" {
		return dst
	}
	return appendString(append(dst, name...), v)
}

// appendString appends a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			b, err := json.Marshal(s)
			if err != nil { // strings always marshal
				b = []byte(`""`)
			}
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
