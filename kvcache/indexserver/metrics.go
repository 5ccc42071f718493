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
