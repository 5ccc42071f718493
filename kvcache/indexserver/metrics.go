package indexserver

import (
	"bytes"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/kvcache"
	"github.com/inferloom/inferloom/kvcache/follow"
)

// bounds are the upper bounds of the buckets of a request's duration, in seconds.
var bounds = [...]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}

// route counts the requests of one path.
type route struct {
	path    string
	classes [6]atomic.Uint64 // answers by status class; [0] is none
	buckets [len(bounds) + 1]atomic.Uint64
	nanos   atomic.Int64
}

func (r *route) observe(status int, d time.Duration) {
	r.classes[min(status/100, 5)].Add(1)
	i, s := 0, d.Seconds()
	for i < len(bounds) && s > bounds[i] {
		i++
	}
	r.buckets[i].Add(1)
	r.nanos.Add(int64(d))
}

// routes are those of one server, in the order in which they were added.
type routes struct {
	mu  sync.Mutex
	all []*route
}

// counted wraps a handler so that what it answers is counted under a path.
func (s *routes) counted(path string, now func() time.Time, h http.HandlerFunc) http.HandlerFunc {
	r := &route{path: path}
	s.mu.Lock()
	s.all = append(s.all, r)
	s.mu.Unlock()
	return func(w http.ResponseWriter, req *http.Request) {
		start := now()
		status := statusWriter{ResponseWriter: w, status: http.StatusOK}
		h(&status, req)
		r.observe(status.status, now().Sub(start))
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// page is a page of metrics in Prometheus' text format, in the making.
type page struct{ bytes.Buffer }

var labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// family begins a metric; all its samples must follow before the next.
func (p *page) family(name, kind, help string) {
	p.WriteString("# HELP inferloom_kvindex_" + name + " " + help + "\n# TYPE inferloom_kvindex_" + name + " " + kind + "\n")
}

// sample writes one value; labels are pairs of name and value.
func (p *page) sample(name string, v float64, labels ...string) {
	p.WriteString("inferloom_kvindex_" + name)
	for i := 0; i < len(labels); i += 2 {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		p.WriteByte(sep)
		p.WriteString(labels[i] + `="` + labelEscaper.Replace(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		p.WriteByte('}')
	}
	p.WriteByte(' ')
	if math.IsInf(v, 1) {
		p.WriteString("+Inf")
	} else {
		p.Write(strconv.AppendFloat(p.AvailableBuffer(), v, 'g', -1, 64))
	}
	p.WriteByte('\n')
}

func (p *page) one(name, kind, help string, v float64) {
	p.family(name, kind, help)
	p.sample(name, v)
}

// requests writes what is counted of requests.
func (p *page) requests(s *routes) {
	s.mu.Lock()
	all := s.all
	s.mu.Unlock()
	p.family("requests_total", "counter", "Requests answered, by path and class of status.")
	for _, r := range all {
		for class := 1; class < len(r.classes); class++ {
			if n := r.classes[class].Load(); n > 0 {
				p.sample("requests_total", float64(n), "path", r.path, "class", strconv.Itoa(class)+"xx")
			}
		}
	}
	p.family("request_duration_seconds", "histogram", "Time from a request's headers to its answer.")
	for _, r := range all {
		total := uint64(0)
		for i := range r.buckets {
			total += r.buckets[i].Load()
			bound := "+Inf"
			if i < len(bounds) {
				bound = strconv.FormatFloat(bounds[i], 'g', -1, 64)
			}
			p.sample("request_duration_seconds_bucket", float64(total), "path", r.path, "le", bound)
		}
		p.sample("request_duration_seconds_sum", time.Duration(r.nanos.Load()).Seconds(), "path", r.path)
		p.sample("request_duration_seconds_count", float64(total), "path", r.path)
	}
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var p page
	p.requests(&s.routes)
	p.index(s.o.Index.Stats())
	p.engines(s.o.Follower.Health(), s.o.Now())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(p.Bytes()) // the client is gone: nobody to tell
}

func (p *page) index(s kvcache.Stats) {
	for _, m := range []struct {
		name, kind, help string
		value            float64
	}{
		{"blocks", "gauge", "Blocks held, once for each pod that holds them.", float64(s.Blocks)},
		{"guessed_blocks", "gauge", "Blocks that pods are believed to hold before any event says so.", float64(s.Guesses)},
		{"distinct_blocks", "gauge", "Different blocks.", float64(s.Distinct)},
		{"waiting_blocks", "gauge", "Blocks whose parent or tokens are not known.", float64(s.Waiting)},
		{"runs", "gauge", "Pieces that the blocks are stored in.", float64(s.Runs)},
		{"bytes", "gauge", "Memory in use.", float64(s.Bytes)},
		{"max_bytes", "gauge", "Bound of the memory.", float64(s.MaxBytes)},
		{"stored_blocks_total", "counter", "Blocks that events have stored.", float64(s.Stored)},
		{"removed_blocks_total", "counter", "Blocks that events have removed.", float64(s.Removed)},
		{"spliced_blocks_total", "counter", "Blocks whose parent appeared later.", float64(s.Spliced)},
		{"unknown_removals_total", "counter", "Removals of blocks that the pod was not known to hold.", float64(s.Unknown)},
		{"skipped_blocks_total", "counter", "Stored blocks that could not be placed.", float64(s.Skipped)},
		{"late_events_total", "counter", "Events for pods that were closed.", float64(s.Late)},
		{"forgotten_blocks_total", "counter", "Blocks that gave way to others.", float64(s.Forgotten)},
	} {
		p.one(m.name, m.kind, m.help, m.value)
	}
}

func (p *page) engines(all []follow.Health, now time.Time) {
	flag := func(on bool) float64 {
		if on {
			return 1
		}
		return 0
	}
	for _, m := range []struct {
		name, kind, help string
		value            func(*follow.Health) (v float64, ok bool)
	}{
		{"engine_connected", "gauge", "1 while an engine's events are connected to.", func(h *follow.Health) (float64, bool) { return flag(h.Subscriber.Connected), true }},
		{"engine_degraded", "gauge", "1 while blocks may be claimed that are gone.", func(h *follow.Health) (float64, bool) { return flag(!h.Degraded.IsZero()), true }},
		{"engine_last_event_age_seconds", "gauge", "Time since the last batch.", func(h *follow.Health) (float64, bool) {
			return now.Sub(h.LastEvent).Seconds(), !h.LastEvent.IsZero()
		}},
		{"engine_lag_seconds", "gauge", "How long the last batch was under way, by both clocks.", func(h *follow.Health) (float64, bool) {
			return h.Lag.Seconds(), !h.LastEvent.IsZero()
		}},
		{"engine_batches_total", "counter", "Batches applied.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.Batches), true }},
		{"engine_events_total", "counter", "Events in them.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.Events), true }},
		{"engine_replayed_batches_total", "counter", "Batches fetched from the replay endpoint.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.Replayed), true }},
		{"engine_missed_batches_total", "counter", "Batches lost for good.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.Missed), true }},
		{"engine_gaps_total", "counter", "Times that batches were lost.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.Gaps), true }},
		{"engine_restarts_total", "counter", "Restarts seen.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.Restarts), true }},
		{"engine_clears_total", "counter", "Times that all of an engine's blocks were forgotten.", func(h *follow.Health) (float64, bool) { return float64(h.Clears), true }},
		{"engine_malformed_events_total", "counter", "Events left out as a field was wrong.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.Malformed), true }},
		{"engine_wrong_block_size_total", "counter", "Events of another block size than expected.", func(h *follow.Health) (float64, bool) { return float64(h.Subscriber.WrongBlockSize), true }},
		{"engine_predicted_tokens_total", "counter", "Cached tokens predicted for requests that were compared.", func(h *follow.Health) (float64, bool) { return float64(h.Hits.Predicted), true }},
		{"engine_found_tokens_total", "counter", "Cached tokens that the engine then found.", func(h *follow.Health) (float64, bool) { return float64(h.Hits.Found), true }},
		{"engine_problems", "gauge", "Problems that /workers names.", func(h *follow.Health) (float64, bool) { return float64(len(h.Problems())), true }},
	} {
		p.family(m.name, m.kind, m.help)
		for i := range all {
			if v, ok := m.value(&all[i]); ok {
				k := workerOf(all[i].Engine)
				p.sample(m.name, v, "model", k.Model, "tenant", k.tenant, "instance", k.instance, "rank", strconv.Itoa(k.Rank))
			}
		}
	}
}
